"""The role of an array by its name, as public code of Boltzmann machines names its arrays.

Underscores, hyphens and capitals are ignored, except in names of one letter: `_visible_bias`, `visible_bias` and
`visibleBias` are the same.  An array that is no parameter either belongs to another kind of model, which is
refused; or does not affect the distribution (an epoch, a momentum); or is unknown, and is then listed as ignored.
"""

from __future__ import annotations

import itertools
import re

Role = str

WEIGHTS = ("W", "w", "weights", "weight", "weight_matrix", "components_", "vishid")
PAIRS = (
    ("b_left", "b_right"),
    ("b_visible", "c_hidden"),
    ("b_visible", "b_hidden"),
    ("visible_bias", "hidden_bias"),
    ("vbias", "hbias"),
    ("v_bias", "h_bias"),
    ("bv", "bh"),
    ("b_v", "b_h"),
    ("vb", "hb"),
    ("b_vis", "b_hid"),
    ("vis_bias", "hid_bias"),
    ("bias_v", "bias_h"),
    ("bias_visible", "bias_hidden"),
    ("visible_biases", "hidden_biases"),
    ("visbiases", "hidbiases"),
    ("visbias", "hidbias"),
    ("b", "c"),
    ("a", "b"),
    ("intercept_visible_", "intercept_hidden_"),
)
SIDES = {"left": ("v", "vis", "visible", "left"), "right": ("h", "hid", "hidden", "right")}


def plain(name: str) -> str:
    """Return a name without underscores, hyphens and spaces, in lower case if it has more than one letter."""
    bare = re.sub(r"[_\-\s]", "", name)
    if len(bare) > 3 and bare[:3].lower() == "rbm":
        bare = bare[3:]
    return bare if len(bare) < 2 else bare.lower()


def _around(sides: tuple[str, ...], *words: str) -> frozenset[str]:
    """Return every side's name before and after every word."""
    return frozenset(itertools.chain(*((w + s, s + w) for w, s in itertools.product(words, sides))))


_BIAS = ("b", "bias", "biases")
_OFFSET = ("o", "offset", "offsets", "center", "centers", "centre", "centres")
_LEFT = _around(SIDES["left"], *_BIAS) | {"interceptvisible", "biasx"}
_RIGHT = _around(SIDES["right"], *_BIAS) | {"chidden", "chid", "intercepthidden"}
_OFFSETS = {side: _around(sides, *_OFFSET) - {"vo", "ho"} for side, sides in SIDES.items()}
_WEIGHTS = frozenset(map(plain, WEIGHTS)) | {
    "weightsmatrix",
    "weightorig",
    "weightsorig",
    "worig",
    "vhweight",
    "kernel",
}
_MASKS = {
    "",
    *_WEIGHTS,
    "j",
    "w",
    "edge",
    "edges",
    "coupling",
    "couplings",
    "connection",
    "connections",
    "sparsity",
}
_ANY = r"(v|vis|visible|h|hid|hidden|x|left|right|units?)?"
_SIGMA = r"(sigmas?|std|stds|stddevs?|stdevs?|var|vars|variances?|precisions?|precs?)"
# Names of arrays of other kinds of model, by the kind.
_OTHERS = {
    "Gaussian units": rf"{_ANY}(log|inv|sqrt|f)?{_SIGMA}(sq|2|squared|inv)?{_ANY}|(is)?{_ANY}gaussian{_ANY}",
    "units that depend on a past or a condition": (
        r"A|B|U|V|a(past|prev)|b(past|prev)|w?(uv|uh|uw|vu)|.*(past|previous|condition|autoreg|context|lagged).*"
        r"|(w|b|weights?|bias)?cond[a-z]*|dyn[a-z]*bias|h0|hinit|w(rec|recurrent|time)"
    ),
    "labels": (
        r"(lab|label|labels|class|cls)(hid|vis|bias|biases|w|weights?)|(w|weights?)(lab|label|class|y|hy|yh)|by|yb"
    ),
    "further layers": r"(hid|pen)(pen|hid)|penbias(es)?|bpen|hidtop|tophid|(w|weights|b|bias)(top|pen|deep)",
    "auxiliary units": r"weightsu|aux(iliary)?bias|bias(es)?aux|(w|weights)aux",
    "couplings within a side": r"L|(w|weights|j)?(vv|hh|visvis|hidhid|lateral)|(vis|hid)(lateral|j)",
    "units of more than two states": r"(n|num)?(states|categories|colou?rs|softmax)",
    "quantised numbers": r"(w|weights?|quant|dequant|q)?(scales?|scalefactors?|zeropoints?|zp)",
}
_OTHER = {what: re.compile(pattern) for what, pattern in _OTHERS.items()}
_TEMPERATURE = re.compile(r"T|kT|kt|beta|betaeff|effectivebeta|inv(erse)?temp(erature)?|temp|temperature")
_KIND = re.compile(
    rf"(model|machine|rbm|{_ANY[1:-2]}|layer)?(unit|units|unittype|type|types|kind|vartype|activation|class)"
    r"|vartype|units|type|kind|model|spins?|domain|(visible|hidden|left|right)"
)
_HARMLESS = re.compile(
    r"epochs?|steps?|iter[a-z]*|seed|rng[a-z0-9]*|[a-z]*state|[a-z]*version|time[a-z]*|date[a-z]*|lr|learning[a-z]*"
    r"|eta|eps[a-z]*|[a-z]*momentum[a-z]*|[a-z]*decay|batch[a-z]*|n[vh]|n(um)?(vis|hid|left|right|unit|sample|chain"
    r"|epoch|step|node|update|batch|tracked|particle)[a-z]*|num[a-z]*|k|cd[k0-9]*|pcd[k0-9]*|gibbs[a-z]*|loss[a-z]*"
    r"|err|errors?[a-z]*|cost[a-z]*|[a-z]*history|log[a-z]*|metrics?|chains?[a-z]*|parallelchains[a-z]*|particles"
    r"|fantasy[a-z]*|persistent[a-z]*|[a-z]*chains?|[a-z]*samples|optim[a-z]*|expavg[a-z]*|schedul[a-z]*|d(w|j|vb|hb|b|c|a"
    r"|bv|bh|vbias|hbias|weights?)|[a-z]*grad[a-z]*|[a-z]*velocity|(vishid|visbias|hidbias|weights?|w)inc|config[a-z]*"
    r"|args|hyper[a-z]*|param[a-z]*|name|title|author|description|comment|shape|gpu|device|dtype|unitary[a-z]*|l1|l2"
    r"|train[a-z]*|test[a-z]*|valid[a-z]*|val|data[a-z]*|images?|elapsed[a-z]*|callbacks|loops|pytorchlightningversion"
    r"|centered|centred|is?centered|free(energy|energies)|magnetisation|magnetization|optimizer[a-z]*|nparams?"
    r"|globals?|header|file[a-z]*|command|git[a-z]*|host[a-z]*|user|ema|best[a-z]*|numpyrng[a-z0-9]*|pseudoll[a-z]*"
)


def role(name: str) -> Role:
    """Return the role of an array of that name.

    Returns
    -------
    str
        `weights`, `J`, `left`, `right`, `a`, `b`, `c`, `bias`, `constant`; `offset left`, `offset right`; `mask
        weights`, `mask left`, `mask right`, `mask`; `temperature`, `energy`, `field`, `layer`, `kind`; `other:
        WHAT` for an array of another kind of model; `harmless`; or `unknown`.
    """
    key = plain(name)
    exact = {"J": "J", "a": "a", "b": "b", "c": "c", "bias": "bias", "constant": "constant"}
    if key in exact or key in _WEIGHTS:
        return exact.get(key, "weights")
    if (side := _side_of(key)) is not None:
        return side
    if "mask" in key or re.fullmatch(r"adj|adjacency(matrix)?|connectivity", key):
        return _mask(key)
    if re.fullmatch(r"(w|weights?|vishid)[0-9]+|h|(energy)?offset", key):
        return "energy" if key.endswith("offset") else "field" if key == "h" else "layer"
    if _TEMPERATURE.fullmatch(key):
        return "temperature"
    if what := next((what for what, pattern in _OTHER.items() if pattern.fullmatch(key)), None):
        return f"other: {what}"
    if _KIND.fullmatch(key):
        return "kind"
    return "harmless" if _HARMLESS.fullmatch(key) else "unknown"


def _side_of(key: str) -> Role | None:
    """Return the side whose biases or offsets a name means; None if neither."""
    bare = key.removesuffix("orig") or key
    for side, names in (("left", _LEFT), ("right", _RIGHT)):
        if bare in names:
            return side
        if key in _OFFSETS[side]:
            return f"offset {side}"
    return None


def _mask(key: str) -> Role:
    """Return the role of a mask."""
    of = re.sub("mask(s|matrix)?", "", key)
    if of in _MASKS or of.startswith(("adj", "connectivity")):
        return "mask weights"
    side = _side_of(of)
    return f"mask {side}" if side in ("left", "right") else "mask"
