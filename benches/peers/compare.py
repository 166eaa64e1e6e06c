#!/usr/bin/env python3
"""strait against PyTorch and JAX on the same work, on this machine's CPU.

    cargo build --release --bench peers
    pip install numpy torch jax
    python benches/peers/compare.py [--only PREFIX]... [--json OUT.json] > TABLE.md
    python benches/peers/compare.py --check       do all compute the same figures?

Contestants: strait; torch (eager); torch+ (eager with out=, fused Adam, channels_last); torch.compile (inductor, where it
compiles in seconds; needs g++); jax (jit). One that cannot be imported is left out with a note.

How a figure is made. Every contestant is a process of its own with THREADS threads. Operands come from one formula, so all have
the same ones. For each piece of work the processes allocate, compile and warm up, and then sleep; rounds wake them one at a time
in rotating order (ABCD, BCDA, ...). A woken one runs an untimed burst to get its caches back and then timed bursts for CHUNK_S. A
burst is as many calls as fill BURST_S. Training steps wait for the result once per step, single operations after every call. What
other processes took of the cores meanwhile is read from the kernel; a chunk in which they took more than QUIET cores is set aside
and repeated. "processor ms" is the time of all threads, waiting in a loop included; with --threads 1 it hardly depends on what else
runs. The ratio is that of medians over the quiet chunks (marked † if fewer than MIN_QUIET were quiet).
"""
import argparse, json, math, os, statistics, subprocess, sys, time

THREADS, BURST_S, CHUNK_S, QUIET, MIN_QUIET = 2, 0.01, 0.25, 0.2, 4
HERE = os.path.dirname(os.path.abspath(__file__))
CONTESTANTS = ["strait", "torch", "torch+", "torch.compile", "jax"]
ROOT = os.path.dirname(os.path.dirname(HERE))

# name: what must be reached: {contestant: times as fast as it}
TARGETS = {
    "vib_b100": {"torch": 1.3, "jax": 1.0}, "vib_b1000": {"torch": 1.0},
    "vdb_gauss2d": {"torch": 1.2, "torch+": 1.2, "jax": 1.2}, "ebgan_energy2d": {"torch": 1, "torch+": 1, "jax": 1},
    "infovae_mlp": {"torch": 1, "torch+": 1, "jax": 1}, "vgan_mlp": {"torch": 1, "torch+": 1, "jax": 1},
    "infovae_conv": {"torch": 0.8, "torch+": 0.8, "jax": 0.8}, "vgan_dcgan32": {"torch": 0.8, "torch+": 0.8, "jax": 0.8},
    "exp_10M": {"torch": 2}, "tanh_10M": {"torch": 2}, "softplus_10M": {"torch": 2}, "normals_10M": {"torch": 2},
    "matmul_128": {"torch": 0.95}, "matmul_512": {"torch": 0.95}, "matmul_1024": {"torch": 0.95}, "matmul_2048": {"torch": 0.95},
    "layer_forward": {"torch": 0.95}, "layer_dx": {"torch": 0.95}, "layer_dw": {"torch": 0.95},
    "mmd2_n4096_d64": {"torch": 5, "torch.compile": 2},
    "conv2d_forward": {"torch": 0.7}, "conv2d_forward_backward": {"torch": 0.7},
}


# ------------------------------------------------------------------ processes


class Contestant:
    def __init__(self, who, binary):
        env = dict(os.environ, RAYON_NUM_THREADS=str(THREADS), OMP_NUM_THREADS=str(THREADS), MKL_NUM_THREADS=str(THREADS),
                   JAX_PLATFORMS="cpu", CUDA_VISIBLE_DEVICES="", TORCHINDUCTOR_COMPILE_THREADS="1")
        peer = "peer_jax.py" if who == "jax" else "peer_torch.py"
        command = [binary] if who == "strait" else [sys.executable, os.path.join(HERE, peer), "--serve", who, "--threads", str(THREADS)]
        pin = ["taskset", "-c", ",".join(map(str, sorted(os.sched_getaffinity(0))[:THREADS]))]  # XLA takes the cores it may use
        self.who = who
        self.p = subprocess.Popen(pin + command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env)

    def ask(self, *words):
        try:
            self.p.stdin.write(json.dumps(words) + "\n")
            self.p.stdin.flush()
            line = self.p.stdout.readline()
        except BrokenPipeError:
            line = ""
        return json.loads(line) if line else dict(error="the process died (is it installed?)")

    def close(self):
        self.p.stdin.close()
        self.p.wait()


def is_step(case):
    return case["work"].endswith("_step")


# ------------------------------------------------------------------ measuring


def busy_s():
    """Seconds of processor time used on this machine so far, by anyone, and stolen from it."""
    with open("/proc/stat") as f:
        v = [int(x) for x in f.readline().split()[1:]]
    return (sum(v[:8]) - v[3] - v[4]) / os.sysconf("SC_CLK_TCK")


def wait_for_quiet(limit_s):
    end = time.perf_counter() + limit_s
    while time.perf_counter() < end:
        a, t = busy_s(), time.perf_counter()
        time.sleep(0.15)
        if (busy_s() - a) / (time.perf_counter() - t) < QUIET:
            return


def chunk(c, burst, patience):
    """One chunk's answer, with the cores' worth of time that others took meanwhile."""
    wait_for_quiet(patience)
    b, t, own = busy_s(), time.perf_counter(), sum(os.times()[:2])
    r = c.ask("chunk", burst, CHUNK_S)
    if "error" in r:
        return r
    wall = time.perf_counter() - t
    untimed = (wall - r["wall"]) * r["cpu"] / r["wall"]
    r["others"] = max(0.0, busy_s() - b - r["cpu"] - untimed - (sum(os.times()[:2]) - own)) / wall
    return r


def measure(case, contestants, rounds, patience, limit_s):
    """One row per contestant."""
    rows, burst, chunks = {}, {}, {}
    for c in contestants:
        r = c.ask("build", case, False)
        if "absent" in r:  # the contestant would do the same as another
            continue
        if "error" not in r:
            t = time.perf_counter()
            c.ask("run", 2)
            one = min((time.perf_counter() - t) / 2, 1.0)
            c.ask("run", max(1, min(500, int(0.3 / max(one, 1e-6)))))  # warm-up
            t, n = time.perf_counter(), max(1, min(500, int(0.05 / max(one, 1e-6))))
            c.ask("run", n)
            burst[c.who] = max(1, min(1000, int(BURST_S * n / (time.perf_counter() - t))))
            chunks[c.who] = []
        rows[c.who] = dict(work=case["id"], contestant=c.who, **({"error": r["error"]} if "error" in r else {"check": r["check"]}))
    live = [c for c in contestants if c.who in burst]
    quiet = lambda who: [r for r in chunks[who] if r["others"] <= QUIET]
    end = time.perf_counter() + limit_s
    for i in range(2 * rounds):
        if i >= MIN_QUIET and time.perf_counter() > end:
            break
        left = [c for c in live if len(quiet(c.who)) < rounds and "error" not in rows[c.who]]
        if not left:
            break
        for c in left[i % len(left):] + left[:i % len(left)]:
            r = chunk(c, burst[c.who], min(patience, end - time.perf_counter()))
            if "error" in r:
                rows[c.who]["error"] = r["error"]
            else:
                chunks[c.who].append(r)
    for who, cs in chunks.items():
        if not cs:
            continue
        used = quiet(who) if len(quiet(who)) >= MIN_QUIET else cs
        ms = sorted(x for r in used for x in r["ms"])
        at = lambda f: ms[min(len(ms) - 1, int(f * len(ms)))]
        rows[who] |= dict(median_ms=statistics.median(ms), p10_ms=at(0.1), p90_ms=at(0.9), bursts=len(ms), burst=burst[who], chunks=len(cs),
                          cpu_ms=sum(r["cpu"] for r in used) * 1e3 / (len(ms) * burst[who]),
                          quiet=len(quiet(who)), disturbed=len(quiet(who)) < MIN_QUIET,
                          others=statistics.mean(r["others"] for r in used))
    for c in live:
        c.ask("build", {"id": "nothing"}, False)  # frees the operands; answers with an error
    return [rows[c.who] for c in contestants if c.who in rows]


def table(rows):
    num = lambda v: f"{v:.3f}" if v < 1 else f"{v:.2f}" if v < 100 else f"{v:.0f}"
    out = ["| work | contestant | median ms | p10 | p90 | processor ms | bursts | quiet chunks | strait is times as fast | target |",
           "|---|---|---:|---:|---:|---:|---:|---:|---:|---|"]
    for name in dict.fromkeys(r["work"] for r in rows):
        group = [r for r in rows if r["work"] == name]
        ours = next((r for r in group if r["contestant"] == "strait" and "error" not in r), None)
        for r in group:
            if "error" in r:
                out.append(f"| {name} | {r['contestant']} | failed: {r['error']} | | | | | | | |")
                continue
            target = TARGETS.get(name, {}).get(r["contestant"])
            ratio = r["median_ms"] / ours["median_ms"] if ours and r is not ours else None
            verdict = "" if target is None or ratio is None else f"{target:g}: {'reached' if ratio >= target else 'MISSED'}"
            out.append(f"| {name} | {r['contestant']} | {num(r['median_ms'])} | {num(r['p10_ms'])} | {num(r['p90_ms'])} | {num(r['cpu_ms'])} | {r['bursts']} | "
                       f"{r['quiet']}/{r['chunks']}{' †' * r['disturbed']} | {'' if ratio is None else f'{ratio:.2f}'} | {verdict} |")
    return "\n".join(out)


def machine():
    with open("/proc/cpuinfo") as f:
        cpu = next((l.split(":")[1].strip() for l in f if l.startswith("model name")), "unknown")
    v = dict(date=time.strftime("%Y-%m-%d"), cpu=cpu, cores=os.cpu_count(), threads=THREADS, python=sys.version.split()[0])
    for name in ("torch", "jax", "numpy"):
        code = f"import {name}; print({name}.__version__)"
        r = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        v[name] = r.stdout.strip() or "not installed"
    for command in (["rustc", "--version"], ["git", "-C", ROOT, "describe", "--always", "--dirty"]):
        r = subprocess.run(command, capture_output=True, text=True)
        v[command[0]] = r.stdout.strip()
    return v


def check(contestants, cases):
    """Do all contestants get the same figures? Those of the first run, and for training steps those of each of the first five, with noise
    that is the same for all."""
    worst = 0.0
    for case in cases:
        name, want = case["id"], None
        for c in contestants:
            r = c.ask("build", case, is_step(case))
            if "absent" in r:
                continue
            figures = list(r.get("check", []))
            for _ in range(4 if is_step(case) else 0):
                figures += c.ask("run", 1).get("check", [])
            if "error" in r:
                print(f"{name:32s} {c.who:14s} failed: {r['error']}")
                worst = math.inf if c.who == "strait" else worst
                continue
            want = want or figures
            # A figure that is a difference of larger ones (mmd2) agrees to about 1e-7 of those: hence the absolute part.
            error = max((abs(a - b) / (abs(b) + 1e-3) for a, b in zip(figures, want)), default=0.0)
            error = math.inf if len(figures) != len(want) else error
            worst = max(worst, error)
            print(f"{name:32s} {c.who:14s} relative difference {error:.1e}  {[float(f'{f:.6g}') for f in figures[:5]]}")
    print(f"worst relative difference {worst:.1e}")
    return worst < 1e-3


def built(binary):
    """The path of strait's side, building it if none is given."""
    if binary:
        return binary
    command = ["cargo", "build", "--release", "--bench", "peers", "--message-format=json"]
    r = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if r.returncode:
        sys.exit("cargo could not build the bench 'peers'")
    messages = [json.loads(l) for l in r.stdout.splitlines() if l.startswith("{")]
    return next(m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "peers")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", action="append", metavar="PREFIX", help="only work whose name starts so")
    p.add_argument("--against", action="append", metavar="NAME", help=f"only these contestants besides strait, of {CONTESTANTS[1:]}")
    p.add_argument("--json", metavar="OUT", help="also write everything there")
    p.add_argument("--threads", type=int, default=2, help="of each contestant")
    p.add_argument("--limit", type=float, default=60.0, metavar="S", help="time for a piece of work after its builds")
    p.add_argument("--rounds", type=int, default=9, help="quiet chunks wanted per contestant")
    p.add_argument("--patience", type=float, default=5.0, metavar="S", help="longest wait for a quiet machine before each chunk")
    p.add_argument("--binary", help="strait's side, if it is already built")
    p.add_argument("--check", action="store_true", help="compare figures instead of times")
    a = p.parse_args()
    global THREADS
    THREADS = a.threads
    wanted = lambda n: not a.only or any(n.startswith(o) for o in a.only)
    binary = built(a.binary)
    contestants = [Contestant(w, binary) for w in CONTESTANTS if w == "strait" or not a.against or w in a.against]
    there_are = contestants[0].ask("list")
    # Every framework has other random numbers.
    cases = [case for case in there_are if wanted(case["id"]) and not (a.check and case["work"] == "normals")]
    if not cases:
        sys.exit(f"no work starts with {a.only}; there is {', '.join(case['id'] for case in there_are)}")
    if a.check:
        ok = check(contestants, cases)
        [c.close() for c in contestants]
        sys.exit(not ok)
    rows, start, here = [], time.time(), machine()
    for case in cases:
        print(f"{case['id']} ({time.time() - start:.0f} s)", file=sys.stderr)
        rows += measure(case, contestants, a.rounds, a.patience, a.limit)
        if a.json:
            with open(a.json, "w") as f:
                json.dump(dict(machine=here, rows=rows), f, indent=1)
    [c.close() for c in contestants]
    print("- " + ", ".join(f"{k} {v}" for k, v in here.items()))
    print(f"- command: `python benches/peers/compare.py {' '.join(sys.argv[1:])}`".rstrip())
    good = [r for r in rows if "median_ms" in r]
    n, q = sum(r["chunks"] for r in good), sum(r["quiet"] for r in good)
    print(f"- {n - q} of {n} chunks set aside because of other processes; † marks rows with fewer than {MIN_QUIET} quiet ones\n")
    print(table(rows))


if __name__ == "__main__":
    main()
