"""Single operations: each is written once, against the interface `B` that `peer_torch.py` and `peer_jax.py` have. Their operands and ids are
those of `benches/cases`."""
import dataclasses, functools, math, typing

from families import halves, kernel
from operands import TURNS


@dataclasses.dataclass
class Work:
    """f on operands that `make` makes from a salt; of `gradients` of them, the first ones, the gradient of its value is taken too."""
    turns: int
    make: typing.Callable
    f: typing.Callable
    gradients: int


def of(B, f, elements, *operands, gradients=0, scale=1.0):
    """On operands of a shape each, perhaps with a role. On a GPU so many sets take turns that no cache holds them."""
    make = lambda salt: [B.operand(salt + i, scale, i < gradients, *o) for i, o in enumerate(operands)]
    turns = 1 if B.device == "cpu" else max(1, min(TURNS, -(-(120 << 20) // max(elements * B.itemsize, 1))))
    return Work(turns, make, f, gradients)


def elementwise(name):
    return lambda B, shape, words: of(B, getattr(B, name), 2 * math.prod(shape), (shape,), scale=4.0)


def reduction(B, shape, words):
    axes = {"all": (0, 1), "rows": (1,), "columns": (0,)}[words[1]]
    f = (lambda x: x.sum(axes)) if words[0] == "sum" else (lambda x: x.var(axes, correction=0))
    return of(B, f, math.prod(shape), (shape,), scale=4.0)


def product(B, shape, words):
    m, k, n = shape
    operand = lambda a, b, t: ((b, a), "transposed") if t == "t" else ((a, b),)
    a, b = words[1]
    return of(B, B.product(a == "t", b == "t"), m * k + k * n + m * n, operand(m, k, a), operand(k, n, b))


def linear(B, shape, words):
    rows, inputs, outputs = shape
    layer = lambda x, w, b: B.relu(B.affine(x, w, b))

    def dw(x, w, b, g, y):
        g = B.masked(g, y)
        return g.T @ x, g.sum(0)

    f = {"forward": lambda x, w, b, g, y: layer(x, w, b), "dx": lambda x, w, b, g, y: B.masked(g, y) @ w, "dw": dw,
         "both": lambda x, w, b: layer(x, w, b).sum()}[words[1]]
    both = words[1] == "both"
    operands = [((rows, inputs),), ((outputs, inputs),), ((outputs,),), ((rows, outputs),), ((rows, outputs),)][:3 if both else 5]
    return of(B, f, rows * inputs + inputs * outputs + rows * outputs, *operands, gradients=3 if both else 0)


def convolution(B, shape, words):
    images, channels, side, filters, window, stride = shape
    transposed, padding = words[1] == "transpose2d", (window - 1) // 2
    result = side * stride if transposed else -(-side // stride)
    out = result + 2 * padding - window - (side - 1) * stride if transposed else 0
    w = ((channels, filters, window, window), "filters up") if transposed else ((filters, channels, window, window), "filters")
    operands = ((images, channels, side, side), "images"), w, ((filters,),), ((images, filters, result, result), "images")
    f = B.convolution(words[-1], transposed, "plain" not in words, stride, padding, out)
    return of(B, f, sum(math.prod(shape) for shape, *_ in operands), *operands)


def bottleneck(B, shape, words):
    rows, latent = shape
    backward = words[-1] != "forward"

    def f(x):
        mean, raw = halves(x)
        sigma = B.softplus(raw - 5)
        z = mean + sigma * B.normal(mean.shape)
        kl = 0.5 * (mean * mean + sigma * sigma - 1 - 2 * B.log(sigma)).sum(1)
        return z.sum() + kl.mean() if backward else (z, kl)
    return of(B, f, 8 * rows * latent, ((rows, 2 * latent),), gradients=int(backward))


def cross_entropy(B, shape, words):
    rows, classes = shape
    operands = (shape,), ((rows,), "labels", classes)
    return of(B, B.cross_entropy, 3 * rows * classes, *operands, gradients=int(words[-1] != "forward"), scale=4.0)


def batch_norm(B, shape, words):
    backward = words[-1] != "forward"
    f = (lambda x, w, b: (B.norm(x, (w, b)) ** 3).sum()) if backward else (lambda x, w, b: B.norm(x, (w, b)))
    return of(B, f, 5 * math.prod(shape), (shape, "images"), ((shape[1],),), ((shape[1],),), gradients=3 if backward else 0)


def mmd2(B, shape, words):
    """In the matrix form."""
    n, m, d = shape
    scales = [s * 2 * d for s in ((0.1, 0.2, 0.5, 1, 2, 5, 10) if words[1] == "imq7" else (1,))]
    k_of = lambda x, y: kernel(B, x, y, None if words[1] == "rbf" else lambda u: sum(s / (s + u) for s in scales))

    def mean(x, y, same):
        k = k_of(x, y)
        return (k.sum() - k.diagonal().sum()) / (len(x) * (len(x) - 1)) if same and "unbiased" in words else k.mean()

    f = lambda x, y: mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)
    return of(B, f, (2 * n + m) * d, ((n, d),), ((m, d), "shifted"), gradients=int("forward" not in words))


BUILD = {name: elementwise(name) for name in ("copy", "exp", "tanh", "softplus", "logsumexp")} | {
    "normals": lambda B, shape, words: of(B, functools.partial(B.draw, shape), math.prod(shape), ((), "key")), "sum": reduction, "variance": reduction, "matmul": product,
    "linear": linear, "conv": convolution, "bottleneck": bottleneck, "cross": cross_entropy, "batch": batch_norm, "mmd2": mmd2,
}


def words_of(case):
    return case["work"].replace("conv2d", "conv_2d").split("_")


def build(B, case):
    words = words_of(case)
    return BUILD[words[0]](B, case["shape"], words)


# Tensors of the lists that Adam takes a step on: those of the VIB classifier, and of a VGAN of perceptrons.
LISTS = {"vib": (802816, 1024, 1048576, 1024, 524288, 512, 2560, 10),
         "vgan": (401408, 512, 262144, 512, 65536, 128, 64, 1, 32768, 512, 262144, 512, 401408, 784)}


def adam_operands(B, case):
    """Weights, whose gradients are taken, and gradients."""
    sizes = next((LISTS[w] for w in words_of(case) if w in LISTS), case["shape"])
    make = lambda salt, scale, grad: [B.operand(salt + i, scale, grad, (n,)) for i, n in enumerate(sizes)]
    return make(100, 0.05, True), make(600, 0.01, False)
