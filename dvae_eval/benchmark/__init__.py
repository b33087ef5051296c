"""A benchmark of estimators on test machines and models: their errors, and whether their error bars cover them."""
