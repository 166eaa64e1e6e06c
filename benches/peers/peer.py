"""What the peers have in common: they answer the commands of `compare.py` on the CPU, or time the cases of `benches/cuda`.

    benches/cuda --list > cases.jsonl
    peer_torch.py --cases cases.jsonl [--json FILE] [--few] [--below N] [--device cpu] [NAME...]     the same for peer_jax.py
    peer_torch.py --serve CONTESTANT [--threads N]                                                   the commands of ours.rs

The time of a case is taken as in `benches/cuda`: the difference between several runs and one, on operands that take turns, by the number of
further runs; the median over the repetitions. Precision is that of the case: f32 in full, TF32, or bf16 operands (in training steps of
PyTorch: autocast); F32x3 has no counterpart, its rival is f32. On a CPU operands are those of strait, and there is one set."""
import argparse, json, math, os, re, statistics, sys, time

import numpy as np

from operands import TURNS

BUDGET = 1.5e6  # microseconds of repetitions, as in benches/cuda
# What enters compare.py under which name: the first that there is.
ENTRIES = {"torch": ("torch eager",), "torch+": ("torch out=", "torch tuned", "torch fused", "torch channels_last eager"),
           "torch.compile": ("torch compiled",), "jax": ("jax",)}
# What torch.compile compiles for a CPU in seconds.
COMPILED = {"vib_step", "exp", "tanh", "softplus", "sum_all", "logsumexp", "mmd2_rbf", "cross_entropy"}


def figures(out):
    """What is compared: scalars, and of larger results the sums of absolute values."""
    outs = out if isinstance(out, (tuple, list)) else [out]
    arrays = [np.asarray(o.detach() if hasattr(o, "detach") else o).astype(np.float64) for o in outs]
    return [float(a.sum() if a.size == 1 else np.abs(a).sum()) for a in arrays]


class Running:
    def __init__(self, run, wait):
        self.one, self.wait, self.turn, self.out = run, wait, 0, None

    def run(self, count):
        for _ in range(count):
            self.out = self.wait(self.one(self.turn))
            self.turn += 1


def serve(who, contestants, wait):
    pipe, running = os.fdopen(os.dup(1), "w"), None
    os.dup2(2, 1)  # libraries may print
    for line in sys.stdin:
        command, *args = json.loads(line)
        try:
            if command == "build":
                running, (case, fixed) = None, args
                step = case.get("work", "").endswith("_step")
                entries = contestants(case, "cpu", fixed, case.get("work") in COMPILED) if "work" in case else []
                make = next((make for name, make, _ in entries if name in ENTRIES[who]), None)
                if make:
                    # Training steps wait for the losses.
                    running = Running(make(), (lambda losses: [float(loss) for loss in losses]) if step else wait)
                    running.run(1)
                reply = dict(check=figures(running.out)) if running else dict(absent=True)
            elif command == "run":
                running.run(args[0])
                reply = dict(check=figures(running.out))
            else:
                burst, seconds = args
                running.run(burst)
                ms, start, used = [], time.perf_counter(), time.process_time()
                while not ms or time.perf_counter() - start < seconds:
                    t = time.perf_counter()
                    running.run(burst)
                    ms.append((time.perf_counter() - t) / burst * 1e3)
                reply = dict(ms=ms, wall=time.perf_counter() - start, cpu=time.process_time() - used)
        except Exception as e:
            reply = dict(error=re.sub(r"(/[\w.+-]+)+/", "", f"{type(e).__name__}: {e}").split("\n")[0][:200])  # without paths
        print(json.dumps(reply), file=pipe, flush=True)


def measure(elapsed, most):
    """Microseconds of one run, and their spread; `elapsed` gives those of so many."""
    elapsed(1)
    once = elapsed(1)
    copies = 2 if once > BUDGET / 100 else TURNS
    repetitions = max(3, min(most, int(BUDGET / (once * (copies + 1)))))
    times = [(-elapsed(1) + elapsed(copies)) / (copies - 1) for _ in range(repetitions + 1)]
    times = sorted(times[1:])  # the first one warms up
    return statistics.median(times), (times[3 * len(times) // 4] - times[len(times) // 4]) / 2


def time_cases(options, contestants, timer, alive):
    """Each result is a line at the end of the file at once, and what fails is a line with its error: what ends this process loses nothing.
    After an error that leaves the device dead a new process goes on with the next contestant."""
    out, at, failed = open(options.json, "a") if options.json else None, 0, options.failed
    for case in map(json.loads, open(options.cases)):
        name, kind, label = case["id"], case["dtype"], "x".join(map(str, case["shape"]))
        if kind == "f32x3" or "accuracy" in name or math.prod(case["shape"]) >= options.below:
            continue
        if options.names and not any(name.startswith(n) for n in options.names):
            continue
        entries = named(contestants, case, options)
        for peer, make, captured in entries:
            at += 1
            if at <= options.start:
                continue
            row = {"id": name, "shape": label, "dtype": kind, "peer": peer}
            try:
                us, spread = measure(timer(make(), captured, options.device), 3 if options.few else 30)
                row |= {"us": us, "spread_us": spread}
                print(f"{name:28} {label:>22} {kind:>5} {peer:>28} {us:12.2f} {spread / us * 100:6.1f}%", flush=True)
            except Exception as error:  # one that cannot be built, compiled or captured, or has no memory
                row["error"] = f"{type(error).__name__}: {error}"
                print(f"{name} {label} {kind} {peer}: {row['error']}", file=sys.stderr, flush=True)
                failed += 1
            if out:
                print(json.dumps(row), file=out, flush=True)
            if "error" in row and not alive(options.device):
                os.execv(sys.executable, [sys.executable, *sys.argv, "--start", str(at), "--failed", str(failed)])
    if failed:
        print(f"{failed} failed", file=sys.stderr)


def named(contestants, case, options):
    """The contestants of a case. If they cannot even be named, that is the error of one."""
    try:
        return list(contestants(case, options.device, False, case["short"]))
    except Exception as error:
        def make(error=error):
            raise error
        return [("none", make, False)]


def main(contestants, timer, wait, start, alive):
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve", choices=ENTRIES)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--cases")
    parser.add_argument("--json")
    parser.add_argument("--few", action="store_true")
    parser.add_argument("--below", type=float, default=math.inf)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    # of a process that goes on for another: the contestants before, and how many of them failed
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--failed", type=int, default=0)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    if not options.serve and not options.cases:
        parser.error("either --serve or --cases is needed")
    start("cpu" if options.serve else options.device, options.threads)
    if options.serve:
        serve(options.serve, contestants, wait)
    else:
        time_cases(options, contestants, timer, alive)
