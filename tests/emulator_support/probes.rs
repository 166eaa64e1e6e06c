//! Correct kernels, and what they must give.

use crate::emulator_support::{Driver, Launch};

fn close(what: &str, found: &[f32], expected: &[f64], tolerance: f64) {
    assert!(found.len() >= expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((f64::from(*found) - expected).abs() <= tolerance, "{what}: element {i} is {found}, not {expected}");
    }
}

fn run(driver: &Driver, name: &str, launch: Launch, x: &[f32]) -> Vec<f32> {
    driver
        .run_on("probes", &format!("probe_{name}"), &launch, x)
        .unwrap_or_else(|e| panic!("{} accuses {name}: {}", driver.flavour, e.text))
}

pub fn all(driver: &Driver) {
    products(driver);
    copies(driver);
    warp(driver);
    block(driver);
    transpose(driver);
    arithmetic(driver);
}

/// Small integers and their halves are exact in every format.
fn products(driver: &Driver) {
    for (name, depth) in [("mma_tf32", 8), ("mma_bf16", 16), ("mma_f16", 16)] {
        let x: Vec<f32> = (0..24 * depth).map(|i| ((i * 7 + i / 5) % 23) as f32 * 0.5 - 4.0).collect();
        let (a, b) = x.split_at(16 * depth);
        let expected: Vec<f64> =
            (0..16 * 8).map(|i| (0..depth).map(|k| f64::from(a[i / 8 * depth + k]) * f64::from(b[k * 8 + i % 8])).sum()).collect();
        close(name, &run(driver, name, Launch::one(32), &x), &expected, 0.0);
    }
    // TF32 keeps ten bits, rounded to nearest: 1 + 2^-11 goes up.
    let mut x = vec![0f32; 192];
    x[0] = 1.0 + 2f32.powi(-11);
    x[128] = 1.0;
    assert_eq!(run(driver, "mma_tf32", Launch::one(32), &x)[0], 1.0 + 2f32.powi(-10));
}

fn copies(driver: &Driver) {
    let x: Vec<f32> = (1..=128).map(|i| i as f32).collect();
    let mut expected: Vec<f64> = x.iter().map(|v| f64::from(*v)).collect();
    expected[127] = 0.0;
    let backwards = expected.iter().rev().copied().collect::<Vec<_>>();
    close("copies", &run(driver, "copies", Launch::one(32), &x), &[expected.clone(), expected, backwards].concat(), 0.0);
}

fn warp(driver: &Driver) {
    let v: Vec<i64> = (0..32).map(|i| (i * 11) % 17).collect();
    let x: Vec<f32> = v.iter().map(|v| *v as f32).collect();
    let count = |f: &dyn Fn(i64) -> bool| v.iter().filter(|v| f(**v)).count() as i64;
    let expected: Vec<f64> = (0..32usize)
        .flat_map(|l| {
            let results = [
                v[5],
                if l < 3 { v[l] } else { v[l - 3] },
                if l % 16 >= 13 { v[l] } else { v[l + 3] },
                v[l ^ 9],
                count(&|v| v % 2 == 1),
                v.iter().sum(),
                *v.iter().max().unwrap(),
                *v.iter().min().unwrap(),
                count(&|w| w % 4 == v[l] % 4),
                i64::from(v.contains(&7)) + 2,
                if l < 16 { v[l ^ 1] } else { v[l ^ 2] },
                v.iter().sum(),
            ];
            results.map(|r| r as f64)
        })
        .collect();
    close("warp", &run(driver, "warp", Launch::one(32), &x), &expected, 0.0);
}

fn block(driver: &Driver) {
    let (blocks, threads, n) = (3, 96, 250);
    let x: Vec<f32> = (0..n).map(|i| ((i * 5) % 19) as f32).collect();
    let y = run(driver, "block", Launch { blocks: [blocks as u32, 1], n, ..Launch::one(threads as u32) }, &x);
    assert_eq!((y[0].to_bits(), y[1]), (3, 1.0), "one block is the last");
    for b in 0..blocks {
        let part: Vec<i64> = (b * threads..(b + 1) * threads).map(|i| x.get(i).map_or(0, |v| *v as i64)).collect();
        let mut expected: Vec<f64> = (0..8).map(|h| part.iter().filter(|v| **v % 8 == h).count() as f64).collect();
        expected.push(part.iter().sum::<i64>() as f64);
        expected.push(part.iter().filter(|v| **v % 2 == 1).count() as f64);
        close("block", &y[4 + b * 10..], &expected, 0.0);
    }
}

fn transpose(driver: &Driver) {
    let n = 21;
    let x: Vec<f32> = (0..n * n).map(|i| i as f32).collect();
    let expected: Vec<f64> = (0..n * n).map(|i| f64::from(x[i % n * n + i / n])).collect();
    let launch = Launch { blocks: [2, 2], threads: [16, 16], shared: 16 * 17 * 4, n: n as i32, ..Launch::one(1) };
    close("transpose", &run(driver, "transpose", launch, &x), &expected, 0.0);
}

fn arithmetic(driver: &Driver) {
    let (a, b) = (1.1f32, 2.3f32);
    let (a64, b64) = (f64::from(a), f64::from(b));
    let half = |v: f64| f64::from(half::f16::from_f64(v).to_f32());
    let expected = [
        f64::from(a.mul_add(b, -(a * b))),
        f64::from(a + b),
        0.0,
        f64::from(1.0 / a + b.sqrt() + a / b),
        f64::from((a64 * b64 + 1.0) as f32),
        2.0 - 20.0 - 300.0 + 3000.0,
        1.0,
        4.0 + 31.0 + 4.0 + 1.0,
        3.0 + f64::from(0x0000_0004),
        1.0,
        2.0,
        half(half(a64) * half(b64) + 1.0),
        f64::from(half::bf16::from_f32(a).to_f32()),
        a64 + 3.0 + 1.0 + a64,
        0.5 + 1.0,
        3.0,
        1.0 + 2.0,
    ];
    close("arithmetic", &run(driver, "arithmetic", Launch::one(1), &[a, b]), &expected, 1e-6);
}
