use super::*;

fn sin<T: Real>(x: T) -> T {
    let mut out = [x];
    T::sin_slice(&[x], &mut out);
    out[0]
}

fn cos<T: Real>(x: T) -> T {
    let mut out = [x];
    T::cos_slice(&[x], &mut out);
    out[0]
}

fn extremes<T: Real>() {
    let n = T::from_f64;
    let nan = n(f64::NAN);
    for f in [T::exp, T::exp_m1, T::ln, T::ln_1p, T::tanh, T::sigmoid, T::softplus, T::log_softplus, T::log_sigmoid, sin, cos, T::erf] {
        assert!(f(nan).to_f64().is_nan());
    }
    for (a, b) in [(nan, T::ONE), (T::ONE, nan), (nan, nan)] {
        assert!(a.max_(b).to_f64().is_nan());
    }
    assert!(n(2.0).max_(n(-3.0)) == n(2.0));
    for x in [1e4, 1e30, f64::INFINITY] {
        let x = n(x);
        assert!(x.exp() == T::INFINITY && (-x).exp() == T::ZERO);
        assert!(x.exp_m1() == T::INFINITY && (-x).exp_m1() == -T::ONE);
        assert!(x.tanh() == T::ONE && (-x).tanh() == -T::ONE);
        assert!(x.sigmoid() == T::ONE && (-x).sigmoid() == T::ZERO);
        assert!(x.softplus() == x && (-x).softplus() == T::ZERO);
        assert!(x.log_sigmoid() == T::ZERO && (-x).log_sigmoid() == -x);
        assert!(x.log_softplus() == x.ln() && (-x).log_softplus() == -x);
        assert!(x.erf() == T::ONE && (-x).erf() == -T::ONE);
    }
    assert!(T::INFINITY.ln() == T::INFINITY && T::INFINITY.ln_1p() == T::INFINITY);
    assert!(T::ZERO.ln() == T::NEG_INFINITY && (-T::ZERO).ln() == T::NEG_INFINITY && (-T::ONE).ln_1p() == T::NEG_INFINITY);
    assert!((-T::ONE).ln().to_f64().is_nan() && n(-1.5).ln_1p().to_f64().is_nan());
    assert!(T::NEG_INFINITY.ln().to_f64().is_nan() && T::NEG_INFINITY.ln_1p().to_f64().is_nan());
    assert!(sin(T::INFINITY).to_f64().is_nan() && cos(T::INFINITY).to_f64().is_nan());
    assert!(T::ZERO.exp() == T::ONE && T::ONE.ln() == T::ZERO && T::ZERO.sigmoid() == n(0.5) && cos(T::ZERO) == T::ONE);
    for f in [T::exp_m1, T::ln_1p, T::tanh, sin, T::erf] {
        assert!(f(T::ZERO) == T::ZERO && T::ONE / f(-T::ZERO) == T::NEG_INFINITY);
    }
}

#[test]
fn extremes_f32() {
    extremes::<f32>();
}

#[test]
fn extremes_f64() {
    extremes::<f64>();
}

/// By their series in f64 near 0, where the definitions would cancel.
#[test]
fn remainders_near_zero_are_never_negative_and_exact_to_a_few_ulp() {
    fn check<T: Real>() {
        let epsilon = if size_of::<T>() == 8 { f64::EPSILON } else { f32::EPSILON.into() };
        let ulps = |found: T, expected: f64| (found.to_f64() - expected).abs() / (expected.abs() * epsilon).max(f64::MIN_POSITIVE);
        for exponent in 0..24 {
            for sign in [-1.0, 1.0] {
                let x = T::from_f64(sign * 0.98 * 2f64.powi(-exponent));
                let series = |first: i32, term: &dyn Fn(i32) -> f64| (first..60).map(term).sum::<f64>();
                let v = x.to_f64();
                let expected = series(2, &|n| v.powi(n) / (1..=n).map(f64::from).product::<f64>());
                assert!(ulps(x.exp_remainder(), expected) < 4.0, "{x:?}: {:?} for {expected}", x.exp_remainder());
                let sigma = T::from_f64(1.0 + 0.5 * v);
                let t = sigma.to_f64() - 1.0;
                let expected = t * t / 2.0 + series(2, &|n| (-t).powi(n) / f64::from(n));
                let found = sigma.scale_excess(sigma.ln());
                assert!(ulps(found, expected) < 6.0 && found >= T::ZERO, "{sigma:?}: {found:?} for {expected}");
            }
        }
        let n = T::from_f64;
        assert!(T::ZERO.exp_remainder() == T::ZERO && T::ONE.scale_excess(T::ZERO) == T::ZERO);
        assert!(T::INFINITY.exp_remainder() == T::INFINITY && T::NEG_INFINITY.exp_remainder() == T::INFINITY);
        assert!(n(f64::NAN).exp_remainder().to_f64().is_nan() && n(f64::NAN).scale_excess(n(f64::NAN)).to_f64().is_nan());
        assert!(ulps(n(3.0).exp_remainder(), 3f64.exp() - 4.0) < 4.0 && ulps(n(-3.0).exp_remainder(), (-3f64).exp() + 2.0) < 4.0);
        assert!(ulps(n(4.0).scale_excess(n(4.0).ln()), 7.5 - 4f64.ln()) < 4.0);
        assert!(T::ZERO.scale_excess(n(-100.0)) == n(99.5));
    }
    check::<f32>();
    check::<f64>();
}

#[test]
fn log_softplus_is_continuous_where_it_changes_form() {
    let below = Real::log_softplus(-30.000000000001_f64);
    let above = Real::log_softplus(-29.999999999999_f64);
    assert!((below + 30.000000000001).abs() < 1e-13 && (above - below - 2e-12).abs() < 2e-14);
    // x - e^x/2 + 5/24 e^(2x), the asymptotic series.
    let x = -20.0_f64;
    let e = x.exp();
    assert!((Real::log_softplus(x) - (x - e / 2.0 + 5.0 / 24.0 * e * e)).abs() < 1e-14);
}
