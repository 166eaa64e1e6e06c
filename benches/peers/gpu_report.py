"""Joins what `benches/cuda`, `peer_torch.py` and `peer_jax.py` wrote into report.json and report.md.

    gpu_report.py FOLDER

Times are medians over the runs of a contestant; the ratio is the rival's time by ours, in the same session on the same machine."""
import collections, glob, json, math, os, statistics, sys


def load(folder, pattern):
    rows = collections.defaultdict(list)
    for path in sorted(glob.glob(os.path.join(folder, pattern))):
        for line in open(path):
            try:
                row = json.loads(line)
            except json.JSONDecodeError:  # the last line of a run that was cut off
                continue
            rows[row["id"], row["shape"], row["dtype"], row.get("peer", "")].append(row)
    return rows


def main():
    folder = sys.argv[1]
    ours, theirs = load(folder, "ours-*.json"), load(folder, "torch-*.json") | load(folder, "jax-*.json")
    us = lambda rows: statistics.median(r["us"] for r in rows)
    known = lambda v: v if v is not None and math.isfinite(v) else None
    report = []
    for (name, shape, dtype, _), rows in ours.items():
        # F32x3 stands in for f32, in which the rivals compute in full.
        rival = (name, shape, "f32" if dtype == "f32x3" else dtype)
        base = {p: us(r) for (*case, p), r in theirs.items() if tuple(case) == rival}
        time, first = us(rows), rows[0]
        report.append({
            "id": name, "shape": shape, "dtype": dtype, "ours_us": time, "base_us": base, "ratio": {p: t / time for p, t in base.items()},
            "floor_us": first["floor_us"], "pct_floor": known(100 * (first["floor_us"] or math.nan) / time),
            "tflops": known((first["tflops"] or math.nan) * first["us"] / time),
            "spread": max(r["spread_us"] / r["us"] for r in rows), "err_vs_f64": first["err_vs_f64"],
        })
    machine = open(os.path.join(folder, "machine.txt")).read() if os.path.exists(os.path.join(folder, "machine.txt")) else ""
    with open(os.path.join(folder, "report.json"), "w") as out:
        json.dump({"machine": machine.splitlines(), "rows": report}, out, indent=1)
    peers = sorted({p for r in report for p in r["base_us"]})
    lines = ["```", machine.strip(), "```", "", "| case | shape | dtype | us | % of copy | TFLOP/s | error | " + " | ".join(peers) + " |",
             "|---" * (7 + len(peers)) + "|"]
    for r in report:
        number = lambda v, f: "-" if v is None else format(v, f)
        cells = [r["id"], r["shape"], r["dtype"], number(r["ours_us"], ".1f"), number(r["pct_floor"], ".0f"), number(r["tflops"], ".1f"),
                 number(r["err_vs_f64"], ".0e")]
        cells += [f"{r['ratio'][p]:.2f}x" if p in r["ratio"] else "-" for p in peers]
        lines.append("| " + " | ".join(cells) + " |")
    with open(os.path.join(folder, "report.md"), "w") as out:
        out.write("\n".join(lines) + "\n")
    print("\n".join(lines))


main()
