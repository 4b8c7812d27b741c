"""Figures of scipy that the Rust statistics are held against.

    python3 -m venv .venv && .venv/bin/pip install scipy==1.17.1 numpy==2.4.6
    .venv/bin/python tests/stats/reference.py > shared/src/stats/testdata/reference.json

Every figure comes from a public function of scipy and from the very counts that stand beside it; only the smoothing, the dropping of
bins that are empty on both sides and the merging of bins with small expectations (statistics: see `distance.rs`) are done here.
"""

import json

import numpy as np
from scipy import special, stats
from scipy.spatial.distance import jensenshannon


def kept(c, m):
    c, m = np.asarray(c, float), np.asarray(m, float)
    return c[c + m > 0], m[c + m > 0]


def smoothed(c, m):
    c, m = kept(c, m)
    b = len(c)
    return (c + 0.5) / (c.sum() + b / 2), (m + 0.5) / (m.sum() + b / 2)


def grouped(c, m):
    c, m = kept(c, m)
    smaller = min(c.sum(), m.sum()) / (c.sum() + m.sum())
    groups, open_ = [], np.zeros(2)
    for pair in zip(c, m):
        open_ = open_ + pair
        if open_.sum() * smaller >= 5:
            groups.append(open_)
            open_ = np.zeros(2)
    if groups:
        groups[-1] = groups[-1] + open_
    else:
        groups.append(open_)
    return np.array(groups).T


def test(table, kind):
    if table.shape[1] < 2:
        return {"statistic": 0.0, "df": 0, "p": 1.0}
    found = stats.chi2_contingency(table, correction=False, lambda_=kind)
    return {"statistic": found.statistic, "df": int(found.dof), "p": found.pvalue}


def distance(name, c, m):
    p, q = smoothed(c, m)
    table = grouped(c, m)
    places = np.arange(len(c)) ** 1.5
    return {
        "name": name,
        "window": [int(x) for x in c],
        "baseline": [int(x) for x in m],
        "psi": float(np.sum(special.rel_entr(p, q) + special.rel_entr(q, p))),
        "js": float(jensenshannon(p, q, base=2)),
        "g": test(table, "log-likelihood"),
        "chi2": test(table, "pearson"),
        "ks": float(stats.ks_2samp(np.repeat(np.arange(len(c)), c), np.repeat(np.arange(len(m)), m), method="asymp").statistic),
        "places": places.tolist(),
        "wasserstein": float(stats.wasserstein_distance(places, places, c, m)),
    }


def distances():
    rng = np.random.default_rng(20_261_123)
    even = np.full(32, 1 / 32)
    yield distance("null, 500 of 50000", rng.multinomial(500, even), rng.multinomial(50_000, even))
    yield distance("null, 2000 of 2000", rng.multinomial(2000, even), rng.multinomial(2000, even))
    shifted = stats.norm.pdf(stats.norm.ppf((np.arange(32) + 0.5) / 32) - 0.5)
    shifted /= shifted.sum() * 1.0
    yield distance("shifted, 500 of 50000", rng.multinomial(500, shifted), rng.multinomial(50_000, even))
    yield distance("strongly shifted, 1000 of 3000", rng.multinomial(1000, even[::-1] * np.arange(32) / 15.5), rng.multinomial(3000, even))
    c, m = rng.multinomial(300, even), rng.multinomial(40_000, even)
    yield distance("outer cells", [0, *c, 90, 0], [0, *m, 0, 3])
    yield distance("empty bins on both sides", [0, 7, 0, 0, 40, 3], [0, 0, 0, 70, 300, 30])
    yield distance("too few to test", [1, 1, 0], [3, 0, 2])
    yield distance("classes, one vanished", rng.multinomial(600, [0.2] * 5 + [0] * 5), rng.multinomial(9000, [0.1] * 10))
    yield distance("nothing in common", [50, 50, 0, 0], [0, 0, 500, 500])
    yield distance("two bins", [260, 140], [4_000, 4_000])


def binomials():
    for k, n, p in [(0, 10, 0.1), (3, 20, 0.05), (7, 500, 0.01), (60, 500, 0.1), (500, 500, 0.99), (1200, 1_000_000, 0.001),
                    (499_000, 1_000_000, 0.5), (30, 200, 0.01), (2, 5, 0.01), (1, 1, 0.3)]:
        d = stats.binom(n, p)
        interval = lambda a, b, x: float(stats.beta.ppf(x, a, b))
        yield {
            "k": k, "n": n, "p": p,
            "at_least": float(d.sf(k - 1)), "at_most": float(d.cdf(k)), "mass": float(d.pmf(k)),
            "upper95": 1.0 if k == n else interval(k + 1, n - k, 0.95),
            "lower95": 0.0 if k == 0 else interval(k, n - k + 1, 0.05),
        }


def chi_squareds():
    for df in [1, 2, 3, 4, 9, 10, 31, 32, 101, 300]:
        for scale in [0.01, 0.5, 1.0, 1.5, 3.0, 8.0]:
            x = df * scale
            yield {"x": x, "df": df, "tail": float(stats.chi2.sf(x, df))}


def evidence():
    """ln e of one window: Dirichlet-multinomial against multinomial(q) with tolerance eta."""
    rng = np.random.default_rng(7)
    for drift in [0.0, 0.3, 0.8]:
        m = rng.multinomial(20_000, np.full(10, 0.1))
        shares = np.linspace(1 - drift, 1 + drift, 10) / 10
        c = rng.multinomial(500, shares)
        q = (m + 0.5) / (m.sum() + 5)
        lns = [special.gammaln(k) - special.gammaln(k + 500) + np.sum(special.gammaln(k * q + c) - special.gammaln(k * q))
               - np.sum(c * np.log(q)) - 500 * np.log1p(0.05) for k in (50, 500)]
        yield {"window": c.tolist(), "baseline": m.tolist(), "ln_e": float(special.logsumexp(lns) - np.log(2))}


if __name__ == "__main__":
    import scipy
    figures = {"scipy": scipy.__version__, "distances": list(distances()), "binomials": list(binomials()),
               "chi_squared_tails": list(chi_squareds()), "evidence": list(evidence())}
    print(json.dumps(figures, indent=1))
