"""The names of figures and tables that users type, with descriptions; no imports, so that `--help` is fast."""

FIGURES = {
    "benchmark": "estimators of log Z on machines with known answers: errors, calibration, verdicts",
    "comparison": "samples compared with a machine: energies, means of units, both estimates of β",
    "diagnostics": "diagnostics of results",
    "logz": "independent estimates of log Z, one panel per model (Figure 10)",
    "observables": "energy, specific heat, entropy and log Z against inverse temperature",
    "posterior-layers": "log-likelihood against the layers of the RBM's posterior (Figure 6c)",
    "rbm-size": "log-likelihood against the units of the RBM (Figure 6b)",
    "samples": "samples along chains of the prior (Figures 5, 11 to 13)",
    "schedule": "exchange rates and overlaps of the schedule",
    "smoothing": "the smoothing transformations; needs no file (Figures 2a, 7, 8)",
    "sweeps": "log-likelihood against Gibbs sweeps per minibatch (Figure 6a)",
    "training": "the course of training of one run or several",
    "trajectory": "log Z and likelihood along a training, from --path trajectory or a .jsonl",
    "widths": "log-likelihood against the networks' widths (Figure 9)",
}
# Names of earlier versions, which still work.
FORMER_FIGURES = {"ladder": "schedule"}
FIGURE_FORMATS = ("png", "svg", "pdf")
FONTS = ("sans", "serif")
# Inches: a column and the full text width of a two-column paper.
WIDTHS = {"column": 3.25, "page": 6.75}

TABLES = {
    "table1": "log-likelihoods with those of the paper (Table 1)",
    "table2": "architectures (Table 2)",
    "ablation": "the contributions of the model's parts (App. J)",
    "results": "any log-likelihoods, and any estimates of log Z",
    "benchmark": "estimators of log Z on machines with known answers",
}
# Formats of tables, with the suffixes of their files.
TABLE_SUFFIXES = {
    "text": ".txt",
    "markdown": ".md",
    "latex": ".tex",
    "csv": ".csv",
    "json": ".json",
    "html": ".html",
}
