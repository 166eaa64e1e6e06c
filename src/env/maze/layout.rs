//! The walls, the start and the goal of a maze, and the length of the way to the goal.

/// A point in the plane, in m.
pub type Point = [f64; 2];

/// The distance at which the tips of walls are passed: the radius of the ball and half of a wall.
const CLEARANCE: f64 = 0.05;

/// The geometry of a maze.
#[derive(Debug, Clone, PartialEq)]
pub struct Maze {
    /// The two ends of the axis of each wall, the lower and left one first. All are horizontal or vertical, and 0.04 m thick. The first
    /// four are the box around the maze.
    pub walls: Vec<[Point; 2]>,
    /// The start of the ball.
    pub start: Point,
    /// The goal of the ball.
    pub goal: Point,
    /// The gaps that lead on, from below.
    pub(super) passages: Vec<Passage>,
}

/// A gap, as a shaped reward sees it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Passage {
    /// The way leads through this gap from up to this height.
    until: f64,
    gap: Point,
    /// The length that counts as the way from the gap to the goal.
    rest: f64,
}

pub(super) fn distance(a: Point, b: Point) -> f64 {
    ((a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2)).sqrt()
}

impl Maze {
    /// A box between two corners, with walls in it.
    fn new([left, bottom]: Point, [right, top]: Point, inner: &[[Point; 2]], start: Point, goal: Point) -> Maze {
        let mut walls = vec![
            [[left, bottom], [right, bottom]],
            [[right, bottom], [right, top]],
            [[left, bottom], [left, top]],
            [[left, top], [right, top]],
        ];
        walls.extend(inner);
        Maze { walls, start, goal, passages: Vec::new() }
    }

    /// The C-maze: a barrier that touches the right side of the box, or, flipped, the left one. The gaps are 0.3 and 0.2 m wide: the two
    /// are no mirror images.
    pub(super) fn c(flipped: bool) -> Maze {
        let barrier = if flipped { [[-0.1, 0.3], [0.4, 0.3]] } else { [[0.2, 0.3], [0.6, 0.3]] };
        Maze::new([-0.1; 2], [0.6; 2], &[barrier], [0.3, 0.0], [0.3, 0.5])
    }

    /// The S-maze: two barriers, from the left and from the right, or, flipped, from the right and from the left.
    pub(super) fn s(flipped: bool) -> Maze {
        let (from_left, from_right) = (|y: f64| [[-0.3, y], [0.1, y]], |y: f64| [[-0.1, y], [0.3, y]]);
        let (barriers, gap) = if flipped { ([from_right(0.6), from_left(1.2)], -0.2) } else { ([from_left(0.6), from_right(1.2)], 0.2) };
        let mut maze = Maze::new([-0.3, 0.0], [0.3, 1.8], &barriers, [0.0, 0.3], [0.0, 1.5]);
        // The step from gap to gap is counted as shorter than it is, as the authors of the VDB do.
        let (last, between) = ((0.2f64.powi(2) + 0.3 * 0.3).sqrt(), (0.2f64.powi(2) + 0.6 * 0.6).sqrt());
        maze.passages.push(Passage { until: 0.65, gap: [gap, 0.6], rest: between + last });
        maze.passages.push(Passage { until: 1.25, gap: [-gap, 1.2], rest: last });
        maze
    }

    /// A room with nothing in it.
    pub(super) fn empty() -> Maze {
        Maze::new([-0.2, -0.6], [1.0, 0.6], &[], [0.0, 0.0], [0.7, 0.0])
    }

    /// A room with a wall between start and goal.
    pub(super) fn wall() -> Maze {
        let (tip, goal) = ([0.2, 0.0], [-0.2, 0.3]);
        let mut maze = Maze::new([-0.6; 2], [0.6; 2], &[[[-0.6, 0.0], tip]], [-0.2, -0.3], goal);
        maze.passages.push(Passage { until: 0.0, gap: tip, rest: distance(tip, goal) });
        maze
    }

    /// Two rooms with a door between them.
    pub(super) fn two() -> Maze {
        let (door, goal) = ([0.0, 0.0], [0.4, 1.0]);
        let walls = [[[-0.6, 0.0], [-0.2, 0.0]], [[0.2, 0.0], [0.6, 0.0]]];
        let mut maze = Maze::new([-0.6, -1.2], [0.6, 1.2], &walls, [0.0, -1.0], goal);
        maze.passages.push(Passage { until: 0.05, gap: door, rest: distance(door, goal) });
        maze
    }

    /// The lower left and the upper right corner of the box.
    pub fn corners(&self) -> [Point; 2] {
        [self.walls[0][0], self.walls[3][1]]
    }

    /// The way to the goal of shaped rewards, in m: to the next gap, and a constant from there.
    pub(super) fn shaped_way(&self, from: Point) -> f64 {
        match self.passages.iter().find(|passage| from[1] <= passage.until) {
            Some(passage) => distance(from, passage.gap) + passage.rest,
            None => distance(from, self.goal),
        }
    }

    /// The length of the shortest way to the goal around the tips of walls, in m; what a reward that depends on the place alone should fall
    /// with. From a place in a wall it is that of a point beside it.
    pub fn way(&self, from: Point) -> f64 {
        self.ways(&[from])[0]
    }

    /// [`Maze::way`] from many places.
    pub fn ways(&self, places: &[Point]) -> Vec<f64> {
        // From node to node: the goal first, then the places beside the tips of walls. Nothing in the box sees those that are outside of it.
        let mut nodes = vec![self.goal];
        for &[a, b] in &self.walls {
            let outward = [0, 1].map(|i| (b[i] - a[i]) / distance(a, b) * CLEARANCE);
            nodes.extend([[a[0] - outward[0], a[1] - outward[1]], [b[0] + outward[0], b[1] + outward[1]]]);
        }
        let mut ways = vec![f64::INFINITY; nodes.len()];
        ways[0] = 0.0;
        // Few nodes, so it is repeated until nothing changes.
        for _ in 0..nodes.len() {
            for i in 0..nodes.len() {
                for j in 0..nodes.len() {
                    if self.sees(nodes[i], nodes[j]) {
                        ways[i] = ways[i].min(distance(nodes[i], nodes[j]) + ways[j]);
                    }
                }
            }
        }
        let shortest = |from: &Point| {
            let seen = nodes.iter().zip(&ways).filter(|(node, _)| self.sees(*from, **node));
            seen.map(|(node, way)| distance(*from, *node) + way).fold(f64::INFINITY, f64::min)
        };
        places.iter().map(shortest).collect()
    }

    /// Whether no wall crosses the line between two places. A wall is not crossed from a place on its axis.
    fn sees(&self, a: Point, b: Point) -> bool {
        let side = |from: Point, to: Point, p: Point| (to[0] - from[0]) * (p[1] - from[1]) - (to[1] - from[1]) * (p[0] - from[0]);
        self.walls.iter().all(|&[c, d]| side(a, b, c) * side(a, b, d) >= 0.0 || side(c, d, a) * side(c, d, b) >= 0.0)
    }
}

/// The point of a wall's axis that is nearest to `p`.
#[inline(always)]
pub(super) fn nearest(wall: &[Point; 2], p: Point) -> Point {
    // Walls are horizontal or vertical.
    [p[0].max(wall[0][0]).min(wall[1][0]), p[1].max(wall[0][1]).min(wall[1][1])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_lead_around_the_tips() {
        // Straight, where nothing is in between.
        assert_eq!(Maze::empty().way([0.1, 0.0]), distance([0.1, 0.0], [0.7, 0.0]));
        let c = Maze::c(false);
        assert_eq!(c.way([0.5, 0.4]), distance([0.5, 0.4], [0.3, 0.5]));
        let beside = [0.15, 0.3];
        let around = distance(c.start, beside) + distance(beside, c.goal);
        assert!((c.way(c.start) - around).abs() < 1e-12 && around > distance(c.start, c.goal));
        // A gap further away makes the way longer; the flipped gap is on the other side and as far from the middle.
        assert!(c.way([0.55, 0.2]) > c.way([0.2, 0.2]) && c.way([0.0, 0.2]) < c.way([0.4, 0.2]));
        let flipped = Maze::c(true);
        assert!(flipped.way([0.55, 0.2]) < flipped.way([0.2, 0.2]));
        // Two gaps.
        let s = Maze::s(false);
        let gaps = [[0.15, 0.6], [-0.15, 1.2]];
        let around = distance(s.start, gaps[0]) + distance(gaps[0], gaps[1]) + distance(gaps[1], s.goal);
        assert!((s.way(s.start) - around).abs() < 1e-12);
        assert!((s.way([0.1, 0.4]) - Maze::s(true).way([-0.1, 0.4])).abs() < 1e-12, "mirror images");
        assert_eq!(Maze::two().way([0.0, -0.2]), {
            let (door, goal) = ([0.15, 0.0], [0.4, 1.0]);
            let straight = distance([0.0, -0.2], goal);
            // The line to the goal leads through the door.
            let crossing = 0.4 * 0.2 / 1.2;
            if crossing < 0.2 { straight } else { distance([0.0, -0.2], door) + distance(door, goal) }
        });
        for maze in [Maze::c(false), Maze::c(true), Maze::s(false), Maze::s(true), Maze::empty(), Maze::wall(), Maze::two()] {
            let [low, high] = maze.corners();
            for i in 0..400 {
                let at = |k: usize, part: usize| low[k] + (high[k] - low[k]) * (part as f64 + 0.5) / 20.0;
                let way = maze.way([at(0, i % 20), at(1, i / 20)]);
                assert!(way.is_finite() && way >= distance([at(0, i % 20), at(1, i / 20)], maze.goal) - 1e-12, "{i}: {way}");
            }
            assert_eq!(maze.way(maze.goal), 0.0);
        }
    }

    #[test]
    fn shaped_ways_lead_to_the_next_gap() {
        let s = Maze::s(false);
        let (last, between) = (0.13f64.sqrt(), 0.4f64.sqrt());
        assert!((s.shaped_way([0.0, 0.3]) - (0.13f64.sqrt() + between + last)).abs() < 1e-15);
        assert!((s.shaped_way([-0.2, 0.7]) - (0.5 + last)).abs() < 1e-15);
        assert!((s.shaped_way([0.0, 1.3]) - 0.2).abs() < 1e-15);
        assert!((Maze::s(true).shaped_way([-0.2, 0.6]) - (between + last)).abs() < 1e-15);
        assert!((Maze::wall().shaped_way([0.2, -0.1]) - 0.6).abs() < 1e-15);
        assert!((Maze::two().shaped_way([0.0, 0.0]) - 1.16f64.sqrt()).abs() < 1e-15);
    }
}
