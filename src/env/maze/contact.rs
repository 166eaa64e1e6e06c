//! The motion of a ball that is pushed between walls, with the soft contacts of MuJoCo: a constraint may be violated, at a price
//! (Todorov 2014; the documentation of MuJoCo, "Computation").
//!
//! For a ball without friction and rotation in the plane that is one convex function of two accelerations. Trajectories agree with those of
//! MuJoCo 2.3 to rounding.

use smallvec::SmallVec;

use super::layout::{Point, nearest};

/// Of the ball, in m.
const RADIUS: f64 = 0.03;
/// In kg / m^3.
const DENSITY: f64 = 1000.0;
/// Of the ball, in kg.
const MASS: f64 = DENSITY * 4.0 / 3.0 * std::f64::consts::PI * RADIUS * RADIUS * RADIUS;
/// Of the motion, in N s / m.
const DAMPING: f64 = 1.0;
/// Of a substep, in s.
const STEP: f64 = 0.01;
/// Axes of walls lie this much above the center of the ball.
const ABOVE: f64 = 0.01;
/// Of a wall.
const WALL_RADIUS: f64 = 0.02;

/// The contact model, where versions of MuJoCo differ.
#[derive(Debug, Clone, Copy)]
pub(super) struct Contacts {
    /// The distance at which a contact begins, in m.
    pub(super) margin: f64,
    /// The inverse mass with which a contact is weighted, times the mass.
    pub(super) weight: f64,
}

/// As in MuJoCo up to 2.3, with which the papers' mazes were made.
pub(super) const CONTACTS: Contacts = Contacts { margin: 0.002, weight: 2.0 / 3.0 };

/// A contact: 1/2 `weight` min(0, `normal` a - `wanted`)^2, times the mass, is the price of the acceleration a.
#[derive(Clone, Copy)]
struct Contact {
    normal: Point,
    wanted: f64,
    /// As a quotient, which saves a division.
    weight: (f64, f64),
}

/// Place and speed after a substep under a force, all in m, s and N.
#[inline]
pub(super) fn substep(walls: &[[Point; 2]], contacts: Contacts, place: Point, speed: Point, force: Point) -> (Point, Point) {
    const LIGHTNESS: f64 = 1.0 / MASS;
    // Damping is implicit.
    const GAIN: f64 = STEP * MASS / (MASS + STEP * DAMPING);
    let free = [0, 1].map(|i| (force[i] - DAMPING * speed[i]) * LIGHTNESS);
    let reach = RADIUS + WALL_RADIUS + contacts.margin;
    let mut found = SmallVec::<[Contact; 4]>::new();
    for wall in walls {
        let on_axis = nearest(wall, place);
        let away = [place[0] - on_axis[0], place[1] - on_axis[1]];
        let squared = away[0] * away[0] + away[1] * away[1] + ABOVE * ABOVE;
        if squared < reach * reach {
            found.push(contact(contacts, away, squared.sqrt(), speed));
        }
    }
    let acceleration = match &found[..] {
        [] => free,
        [one] => solve_one(free, one),
        several => solve(free, several),
    };
    let next = [0, 1].map(|i| speed[i] + GAIN * acceleration[i]);
    ([0, 1].map(|i| place[i] + STEP * next[i]), next)
}

/// The contact of a ball that is `away` from the nearest point of a wall's axis, in the plane, and `length` in space.
fn contact(contacts: Contacts, away: Point, length: f64, speed: Point) -> Contact {
    // MuJoCo's defaults: solref is 0.02 s and a damping ratio of 1, solimp is 0.9, 0.95 and 0.001 m.
    const LEAST: f64 = 0.9;
    const MOST: f64 = 0.95;
    const WIDTH: f64 = 0.001;
    const TIME: f64 = 0.02;
    let shrink = 1.0 / length;
    let normal = away.map(|part| part * shrink);
    let depth = length - (RADIUS + WALL_RADIUS) - contacts.margin;
    let x = (-depth / WIDTH).min(1.0);
    let y = if x <= 0.5 { 2.0 * x * x } else { 1.0 - 2.0 * (1.0 - x) * (1.0 - x) };
    let impedance = LEAST + (MOST - LEAST) * y;
    const STIFFNESS: f64 = 1.0 / (MOST * MOST * TIME * TIME);
    const DAMPING: f64 = 2.0 / (MOST * TIME);
    let approach = normal[0] * speed[0] + normal[1] * speed[1];
    let weight = (impedance, (1.0 - impedance) * contacts.weight);
    Contact { normal, wanted: -DAMPING * approach - STIFFNESS * impedance * depth, weight }
}

/// The acceleration of [`solve`] for a single contact.
#[inline]
fn solve_one(free: Point, &Contact { normal: [nx, ny], wanted, weight: (above, below) }: &Contact) -> Point {
    let missing = wanted - (nx * free[0] + ny * free[1]);
    let push = above * missing.max(0.0) / (below + above * (nx * nx + ny * ny));
    [free[0] + push * nx, free[1] + push * ny]
}

/// The acceleration that minimizes 1/2 |a - free|^2 plus the prices of the contacts over the mass: Newton's method on the set of those that
/// are violated, which is exact when the set stays.
fn solve(free: Point, contacts: &[Contact]) -> Point {
    let violated = |a: Point| {
        let is = |contact: &Contact| contact.normal[0] * a[0] + contact.normal[1] * a[1] < contact.wanted;
        contacts.iter().enumerate().fold(0u32, |set, (i, contact)| set | u32::from(is(contact)) << i)
    };
    let (mut a, mut set) = (free, violated(free));
    for _ in 0..20 {
        let ([mut xx, mut xy, mut yy], [mut x, mut y]) = ([1.0, 0.0, 1.0], free);
        for (i, &Contact { normal: [nx, ny], wanted, weight: (above, below) }) in contacts.iter().enumerate() {
            if set >> i & 1 == 1 {
                let weight = above / below;
                (xx, xy, yy) = (xx + weight * nx * nx, xy + weight * nx * ny, yy + weight * ny * ny);
                (x, y) = (x + weight * wanted * nx, y + weight * wanted * ny);
            }
        }
        let inverse = 1.0 / (xx * yy - xy * xy);
        a = [(yy * x - xy * y) * inverse, (xx * y - xy * x) * inverse];
        let next = violated(a);
        if next == set {
            break;
        }
        set = next;
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Draw;

    /// At the minimum the derivative is 0, whatever contacts there are.
    #[test]
    fn accelerations_minimize_what_they_should() {
        let mut changed = 0;
        for number in 0..2000 {
            let unit = |i: u64| Draw { key: 3, number }.between(i, -1.0, 1.0);
            let contacts: Vec<Contact> = (0..1 + number % 4)
                .map(|i| {
                    let (angle, length) = (3.2 * unit(4 * i), 0.8 + 0.2 * unit(4 * i + 1));
                    let above = 0.925 + 0.025 * unit(4 * i + 2);
                    let normal = [length * angle.cos(), length * angle.sin()];
                    Contact { normal, wanted: 9.0 * unit(4 * i + 3), weight: (above, (1.0 - above) * 2.0 / 3.0) }
                })
                .collect();
            let free = [9.0 * unit(100), 9.0 * unit(101)];
            let a = solve(free, &contacts);
            let missing = |a: Point, c: &Contact| (c.normal[0] * a[0] + c.normal[1] * a[1] - c.wanted).min(0.0);
            for k in 0..2 {
                let forces = contacts.iter().map(|c| c.weight.0 / c.weight.1 * missing(a, c) * c.normal[k]);
                let derivative = a[k] - free[k] + forces.sum::<f64>();
                assert!(derivative.abs() < 1e-10, "{number}: {derivative:e}");
            }
            changed += usize::from(contacts.iter().any(|c| (missing(a, c) < 0.0) != (missing(free, c) < 0.0)));
            if let [one] = &contacts[..] {
                assert!((0..2).all(|k| (solve_one(free, one)[k] - a[k]).abs() < 1e-12), "{number}");
            }
        }
        assert!(changed > 100, "the set of contacts changed only {changed} times");
    }
}
