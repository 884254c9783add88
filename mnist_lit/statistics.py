"""The few formulas that say how sure a measured accuracy is. Imports no torch."""

from math import sqrt


def wilson_interval(share: float, n: int) -> tuple[float, float]:
    """95 % confidence interval of a proportion `share` seen in n trials (Wilson 1927)."""
    z = 1.959964
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return centre - half, centre + half


def student_t(degrees_of_freedom: int) -> float:
    """Half a 95 % interval's width in standard errors, estimated with so many degrees of freedom (Student 1908)."""
    from scipy.special import stdtrit  # the quantiles of scipy.stats.t, which takes five times as long to import

    return float(stdtrit(degrees_of_freedom, 0.975))


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Two-sided exact p-value that two classifiers err equally often (McNemar 1947, binomial form).

    The arguments count the images that only the first, or only the second, classified right.
    """
    from scipy.stats import binomtest

    discordant = only_first + only_second
    return float(binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0
