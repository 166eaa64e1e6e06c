"""The peer PyTorch: eager, tuned, compiled, and on a GPU captured by hand in a CUDA graph. Its arguments are those of `peer.py`."""
import functools, time

import torch
import torch.nn.functional as F

import peer, works
from families import DUAL_STEP, SPREAD, TARGET, prepare, turns_of
from operands import POOL, labels, values


class Torch:
    """What models and single operations are written against. Tuned: images have their channels last."""

    def __init__(self, device="cpu", kind="f32", tuned=False, fixed=False):
        self.device, self.tuned, self.fixed, self.dtype = device, tuned, fixed, torch.bfloat16 if kind == "bf16" else torch.float32
        self.itemsize, self.images = self.dtype.itemsize, self.array
        self.relu, self.tanh, self.softplus, self.exp, self.log, self.cat = F.relu, torch.tanh, F.softplus, torch.exp, torch.log, torch.cat
        self.copy, self.affine, self.cross_entropy, self.stop = torch.clone, F.linear, F.cross_entropy, torch.Tensor.detach

    def array(self, a):
        return self.last(torch.from_numpy(a.copy()).to(self.device))

    def last(self, x):
        return x.contiguous(memory_format=torch.channels_last) if self.tuned and x.dim() == 4 else x

    def params(self, layers, arrays):
        return [[self.array(a).requires_grad_() for a in layer] for layer in arrays]

    def normal(self, shape, salt=0):
        return self.given(shape, salt) if self.fixed else torch.randn(shape, device=self.device, dtype=self.dtype)

    @torch.compiler.disable  # it would compile numpy's arithmetic too
    def given(self, shape, salt):
        return self.array(values(shape, salt, SPREAD))

    def linear(self, x, p):
        return F.linear(x, *p)

    def conv(self, x, p):
        return F.conv2d(x, *p, stride=2, padding=1)

    def up(self, x, p):
        return F.conv_transpose2d(x, *p, stride=2, padding=1)

    def norm(self, x, p):
        return F.batch_norm(x, None, None, *p, training=True)

    def leaky(self, x):
        return F.leaky_relu(x, 0.2)

    def flatten(self, x):
        return x.flatten(1)

    def to_map(self, x, c, h, w):
        return self.last(x.view(-1, c, h, w))

    def bernoulli(self, logits, target):
        return F.binary_cross_entropy_with_logits(logits, target, reduction="sum")

    def positive(self, x):
        return x.clamp(min=0)

    def input_grad(self, f, x):
        """f(x) gives values and something besides: both, and the gradient of the values' sum, which can be differentiated."""
        x = x.detach().requires_grad_()
        v, other = f(x)
        return v, other, torch.autograd.grad(v.sum(), x, create_graph=True)[0]

    # of single operations alone

    def operand(self, salt, scale, grad, shape, role="", classes=0):
        """That of strait on a CPU; a GPU draws its own."""
        if role == "key":
            return None  # there is a generator
        if role == "labels":
            return torch.from_numpy(labels(shape[0], classes, salt)).to(self.device)
        cpu = self.device == "cpu"
        x = torch.from_numpy(values(shape, salt, scale)) if cpu else (torch.rand(shape, device=self.device) * 2 - 1) * scale
        x = self.last((x + 0.125 if role == "shifted" else x).to(self.dtype)).requires_grad_(grad)
        return x.T if role == "transposed" else x

    def draw(self, shape, key):
        return torch.randn(shape, device=self.device)

    def logsumexp(self, x):
        return torch.logsumexp(x, 1)

    def product(self, *transposed):
        return torch.matmul  # the operands are transposed

    def masked(self, g, y):
        return torch.ops.aten.threshold_backward(g, y, 0)

    def convolution(self, which, transposed, bias, stride, padding, out):
        if transposed:
            forward = lambda x, w, b: F.conv_transpose2d(x, w, b, stride, padding, out)
        else:
            forward = lambda x, w, b: F.conv2d(x, w, b, stride, padding)

        def both(x, w, b, g):
            leaves = [x.detach().requires_grad_(), w.detach().requires_grad_()]
            return torch.autograd.grad(forward(*leaves, b if bias else None), leaves, g)

        def alone(x, w, b, g):
            mask = [which == "dx", which == "dw", which == "dw"]
            back = torch.ops.aten.convolution_backward(g, x, w, b.shape, [stride] * 2, [padding] * 2, [1, 1], transposed, [out] * 2, 1, mask)
            return [y for y in back if y is not None]
        return {"forward": lambda x, w, b, g: forward(x, w, b if bias else None), "both": both}.get(which, alone)


# ------------------------------------------------------------------ runs: functions of the number of the turn


def run_of(work, compiled=False):
    operands = [work.make(10 * i + 1) for i in range(work.turns)]
    if compiled:
        torch._dynamo.reset()
    f = torch.compile(lambda *x: work.f(*x)) if compiled else work.f

    def run(i):
        x = operands[i % len(operands)]
        out = f(*x)
        return [out.detach(), *torch.autograd.grad(out, x[:work.gradients])] if work.gradients else out
    return run


# What writes into a tensor that it is given, by the first word.
INTO = {"exp": torch.exp, "tanh": torch.tanh, "matmul": torch.mm, "normals": lambda key, out: out.normal_()}


def run_into(work, f):
    x = work.make(1)
    out = torch.empty_like(work.f(*x))
    return lambda _: f(*x, out=out)


def adam(B, case, **how):
    """On a list of tensors, with a moving average of the weights, or with gradients cut to a norm before."""
    weights, gradients = works.adam_operands(B, case)
    for w, g in zip(weights, gradients):
        w.grad = g
    average, clip = (word in case["work"].split("_") for word in ("ema", "clip"))
    averages = [w.detach().clone() for w in weights]
    optimizer = torch.optim.Adam(weights, lr=1e-3, capturable=B.device == "cuda", **how)

    def run(_):
        if clip:
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        if average:
            torch._foreach_lerp_(averages, [w.detach() for w in weights], 0.001)
        return weights
    return run


def training_step(case, device, fixed, tuned=False, compiled=False):
    """A run makes one step and gives its losses. Tuned: the fused Adam, images with their channels last."""
    B, autocast = Torch(device, tuned=tuned, fixed=fixed), case["dtype"] == "bf16"
    pool, P, losses, rate, decays = prepare(B, case["work"].removesuffix("_step"), case["shape"])
    frozen = {k: [[a.detach() for a in layer] for layer in v] for k, v in P.items()}
    beta, todo, optimizers = torch.tensor(0.1, device=device), [], {}
    # eager on a GPU: foreach, and a step that can be captured
    how = {"fused": True} if tuned else {"foreach": True} if device == "cuda" else {}
    for (loss, trained, _), turn in zip(losses, turns_of(losses)):
        leaves = [a for k in trained for layer in P[k] for a in layer]
        nets = {k: P[k] if k in trained else frozen[k] for k in P}
        if trained not in optimizers:
            optimizers[trained] = torch.optim.Adam(leaves, rate, decays, capturable=device == "cuda", **how)
        loss = functools.partial(loss, B, nets)
        todo.append((torch.compile(loss) if compiled else loss, optimizers[trained], turn))

    def run(i):
        out = {}
        for loss_of, optimizer, (many, which) in todo:
            with torch.autocast(device, torch.bfloat16, enabled=autocast):
                loss, kl = loss_of(pool[(many * i + which) % POOL], beta)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            if kl is not None:
                with torch.no_grad():
                    beta.add_(DUAL_STEP * (kl - TARGET)).clamp_(min=0)
            out[id(optimizer)] = loss.detach()
        return list(out.values())
    return run


def contestants(case, device, fixed, compiled):
    """(name, what makes the run, whether it is captured in a graph)"""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = case["dtype"] == "tf32"
    name, words, B = case["work"], works.words_of(case), Torch(device, case["dtype"])
    if name.endswith("_step"):
        make = functools.partial(training_step, case, device, fixed)
        yield "torch eager", make, False
        yield "torch captured", make, True
        yield "torch tuned", functools.partial(make, tuned=True), True
        if compiled and "vgan" not in name and "energy" not in name:  # of a penalty torch.compile makes no derivative
            yield "torch compiled", functools.partial(make, tuned=True, compiled=True), False
        return
    if words[0] == "adam":
        how = {"foreach": True} if device == "cuda" else {}
        yield "torch foreach" if how else "torch eager", functools.partial(adam, B, case, **how), True
        yield "torch fused", functools.partial(adam, B, case, fused=True), True
        return
    for prefix, B in [("", B)] + [("channels_last ", Torch(device, case["dtype"], tuned=True))] * (words[0] == "conv"):
        work = works.build(B, case)
        make = functools.partial(run_of, work)
        yield f"torch {prefix}eager", make, not work.gradients
        if work.gradients:
            yield f"torch {prefix}captured", make, True
        if compiled and not prefix and words[0] != "matmul" and (words[0] != "conv" or words[-1] == "forward"):
            yield "torch compiled", functools.partial(run_of, work, True), not work.gradients
    if device == "cpu" and words[0] in INTO:
        yield "torch out=", functools.partial(run_into, work, INTO[words[0]]), False


# ------------------------------------------------------------------ times


def timer(run, captured, device):
    """A function that gives the microseconds of so many runs: on a GPU by events around them, or around the replay of their graph."""
    def repeated(copies):
        for i in range(copies):
            run(i)

    @functools.cache
    def graph(copies):
        if not captured:
            return functools.partial(repeated, copies)
        g = torch.cuda.CUDAGraph()
        with torch.cuda.graph(g):
            repeated(copies)
        return g.replay

    def elapsed(copies):
        if device == "cpu":
            start = time.perf_counter()
            repeated(copies)
            return (time.perf_counter() - start) * 1e6
        f, start, end = graph(copies), *(torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        f()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) * 1e3

    if device == "cuda":
        torch.cuda.empty_cache()
        with torch.cuda.stream(torch.cuda.Stream()):
            repeated(3)
        torch.cuda.synchronize()
    return elapsed


def start(device, threads):
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    if threads:
        torch.set_num_threads(threads)


def alive(device):
    """Whether the device still works: a kernel's fault leaves it dead to this process."""
    try:
        if device == "cuda":
            torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True


if __name__ == "__main__":
    peer.main(contestants, timer, lambda out: out, start, alive)
