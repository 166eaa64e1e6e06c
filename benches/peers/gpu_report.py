"""Joins what `benches/cuda`, the probes of `benches/hopper`, `peer_torch.py` and `peer_jax.py` wrote into results.jsonl into report.json
and report.md.

    gpu_report.py FOLDER

Times are medians over the runs of a contestant; the ratio is the rival's time by ours, in the same session on the same machine. The
contestants "chain" and "dependents" are ours, with all work of a step one after another, and with kernels that are launched early. What failed
is listed with its error."""
import collections, json, math, os, statistics, sys


def load(path):
    """Our rows by case, those of the rivals by case and contestant, those with an error, the last one of each probe, and tuned products."""
    ours, theirs, failed, probes, tiles = collections.defaultdict(list), collections.defaultdict(list), [], {}, []
    for line in open(path):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:  # the last line of a run that was cut off
            continue
        if "probe" in row:
            probes[row["probe"], row.get("shape")] = row
            continue
        case = row["id"], row["shape"], row["dtype"]
        if "error" in row:
            failed.append(row)
        elif "tiles" in row:
            tiles += row["tiles"]
        elif "peer" in row:
            theirs[(*case, row["peer"])].append(row)
        else:
            ours[case].append(row)
    return ours, theirs, failed, list(probes.values()), tiles


def probe_table(probes):
    """What the prototypes for Hopper found: whether their results are right, and which share of their time the model of `bound.h` explains."""
    columns = [("error", ".0e", 1), ("ms", ".4f", 1), ("tflops", ".1f", 1), ("megahertz", ".0f", 1), ("bound_share", ".0f", 100)]
    yield from ["", "| probe | shape | dtype | result | error | ms | TFLOP/s | MHz | % of the bound |", "|---" * 9 + "|"]
    for probe in probes:
        numbers = ("-" if probe.get(key) is None else format(probe[key] * scale, f) for key, f, scale in columns)
        yield f"| {probe['probe']} | {probe.get('shape', '-')} | {probe.get('dtype', '-')} | {probe['result']} | {' | '.join(numbers)} |"


def tuned(tiles):
    """What measuring the divisions of products gained over the model's."""
    gains = [t["model_us"] / t["us"] for t in tiles if t["us"] and t["model_us"]]
    if gains:
        better, mean = sum(gain > 1 for gain in gains), statistics.geometric_mean(gains)
        yield from ["", f"Of {len(gains)} products {better} are divided better than by the model; all are {mean:.3f} times as fast, by the geometric mean."]


def main():
    folder = sys.argv[1]
    ours, theirs, failed, probes, tiles = load(os.path.join(folder, "results.jsonl"))
    us = lambda rows: statistics.median(r["us"] for r in rows)
    known = lambda v: v if v is not None and math.isfinite(v) else None
    report = []
    for (name, shape, dtype), rows in ours.items():
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
        json.dump({"machine": machine.splitlines(), "rows": report, "failed": failed, "probes": probes, "tiles": tiles}, out, indent=1)
    peers = sorted({p for r in report for p in r["base_us"]})
    lines = ["```", machine.strip(), "```", "", "| case | shape | dtype | us | % of copy | TFLOP/s | error | " + " | ".join(peers) + " |",
             "|---" * (7 + len(peers)) + "|"]
    for r in report:
        number = lambda v, f: "-" if v is None else format(v, f)
        cells = [r["id"], r["shape"], r["dtype"], number(r["ours_us"], ".1f"), number(r["pct_floor"], ".0f"), number(r["tflops"], ".1f"),
                 number(r["err_vs_f64"], ".0e")]
        cells += [f"{r['ratio'][p]:.2f}x" if p in r["ratio"] else "-" for p in peers]
        lines.append("| " + " | ".join(cells) + " |")
    lines += probe_table(probes) if probes else []
    lines += tuned(tiles)
    lines += ["", *(f"- {r['id']} {r['shape']} {r['dtype']} {r.get('peer', 'strait')}: {r['error']}" for r in failed)]
    with open(os.path.join(folder, "report.md"), "w") as out:
        out.write("\n".join(lines) + "\n")
    print("\n".join(lines))


main()
