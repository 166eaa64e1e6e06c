//! The division of each product: from a table by shape and architecture, and from a model where the table has no line.
//!
//! The table is `tiles.txt`. `benches/cuda --tune` measures its lines on a GPU. The bits of a result depend on the parts of its sums, and
//! except for products of matrices on tensor cores, on the tile. Those are the same on every GPU; of such products a line has a tile for
//! each architecture.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

use super::cut::{Cut, Tile};
use super::model;
use super::work::Work;

/// The architectures of the table's columns, by the first number of their compute capability; a GPU without a column has the last of those
/// before it.
const ARCHITECTURES: [i32; 3] = [8, 9, 10];
/// Who a line of the table is by that nobody measured.
const MODEL: &str = "model";

/// A line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    parts: usize,
    tiles: [Tile; ARCHITECTURES.len()],
    /// The architectures on which it was measured, or [`MODEL`].
    by: String,
}

impl Line {
    fn by_model(work: &Work) -> Line {
        let cut = model::cheapest(work);
        Line { parts: cut.parts, tiles: [cut.tile; ARCHITECTURES.len()], by: MODEL.into() }
    }

    fn cut(&self, column: usize) -> Cut {
        Cut { tile: self.tiles[column], parts: self.parts }
    }
}

/// Lines by the work that they are for.
#[derive(Debug, Clone, Default)]
pub struct Table(HashMap<Work, Line>);

static BUILT_IN: LazyLock<Table> = LazyLock::new(|| Table::read(include_str!("tiles.txt")).expect("a table that a test has read"));

fn column(capability: (i32, i32)) -> usize {
    ARCHITECTURES.iter().rposition(|&major| major <= capability.0).unwrap_or(0)
}

impl Table {
    /// The table that strait is built with.
    pub fn built_in() -> Table {
        BUILT_IN.clone()
    }

    /// The division of a product on a GPU of this compute capability.
    fn cut(&self, work: &Work, capability: (i32, i32)) -> Cut {
        let cut = self.0.get(work).map(|line| line.cut(column(capability))).filter(|cut| work.fits(cut.tile));
        cut.unwrap_or_else(|| model::cheapest(work))
    }

    fn read(text: &str) -> Result<Table, String> {
        let mut table = Table::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if table.set(line)? {
                return Err(format!("twice in the table of tiles: {line}"));
            }
        }
        Ok(table)
    }

    /// Takes in a line, and returns whether there was another for the same work.
    ///
    /// # Errors
    /// This is no line.
    pub fn set(&mut self, text: &str) -> Result<bool, String> {
        let words = &mut text.split_whitespace();
        let mut parse = || {
            let work = Work::read(words)?;
            let parts = words.next()?.parse().ok().filter(|&parts| parts > 0)?;
            let tiles: Vec<Tile> = words.by_ref().take(ARCHITECTURES.len()).map_while(Tile::by_name).collect();
            let possible = |tile: &Tile| work.tiles().iter().any(|(of, _)| of == tile) && (*tile == tiles[0] || !work.tile_makes_bits());
            let tiles = tiles.clone().try_into().ok().filter(|_| tiles.iter().all(possible))?;
            let by = words.next()?.to_string();
            words.next().is_none().then_some((work, Line { parts, tiles, by }))
        };
        let (work, line) = parse().ok_or_else(|| format!("not a line of the table of tiles: {text}"))?;
        Ok(self.0.insert(work, line).is_some())
    }

    /// The line for this work.
    pub fn line(&self, work: &Work) -> Option<String> {
        let line = self.0.get(work)?;
        let tiles: String = line.tiles.iter().map(|tile| format!("{tile:6} ")).collect();
        Some(format!("{work} {:5} {tiles}{}", line.parts, line.by))
    }

    /// Takes in that on a GPU of this compute capability this division is the fastest.
    pub fn measured(&mut self, work: &Work, capability: (i32, i32), cut: Cut) {
        let line = self.0.entry(*work).or_insert_with(|| Line::by_model(work));
        let place = format!("{}.0", ARCHITECTURES[column(capability)]);
        if line.by == MODEL {
            // Nobody has results that depend on the number of parts that the model had chosen for some GPU.
            *line = Line { parts: cut.parts, tiles: line.tiles, by: String::new() };
            if work.tile_makes_bits() {
                line.tiles = [cut.tile; ARCHITECTURES.len()];
            }
        }
        if !work.tile_makes_bits() {
            line.tiles[column(capability)] = cut.tile;
        }
        if !line.by.split(',').any(|measured| measured == place) {
            line.by += if line.by.is_empty() { "" } else { "," };
            line.by += &place;
        }
    }

    /// Takes in what the model says of work that nobody has measured.
    pub fn modelled(&mut self, work: &Work) {
        let line = self.0.entry(*work).or_insert_with(|| Line::by_model(work));
        if line.by == MODEL {
            *line = Line::by_model(work);
        }
    }

    /// The divisions that are worth a measurement on a GPU of this compute capability, the model's own first: not those that the model
    /// gives twice the time of the fastest, and none with other bits than what was measured elsewhere.
    pub fn candidates(&self, work: &Work) -> Vec<Cut> {
        let mut cuts: Vec<(Cut, usize)> = model::cuts(work).collect();
        let fixed = self.0.get(work).filter(|line| line.by != MODEL).map(|line| line.cut(0));
        let same_bits = |cut: Cut, fixed: Cut| cut.parts == fixed.parts && (cut.tile == fixed.tile || !work.tile_makes_bits());
        cuts.retain(|&(cut, _)| fixed.is_none_or(|fixed| same_bits(cut, fixed)));
        cuts.sort_by_key(|&(_, cycles)| cycles);
        let most = cuts.first().map_or(0, |&(_, cycles)| cycles.saturating_mul(2));
        let mut worth: Vec<Cut> = cuts.into_iter().filter(|&(_, cycles)| cycles <= most).map(|(cut, _)| cut).collect();
        worth.dedup();
        worth
    }
}

/// The table's text, in the order of its columns.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# How products are divided: results of a block, on GPUs of a compute capability, and parts of a sum, on all of them."
        )?;
        writeln!(f, "# Made by `benches/cuda --tune`; \"model\" are lines that were not measured on a GPU.")?;
        writeln!(
            f,
            "# {:16} {:7} {:>6} {:>7} {:>6} {:>5} {:>5} {:6} {:6} {:6} by",
            "", "", "rows", "cols", "depth", "count", "parts", "8.0", "9.0", "10.0"
        )?;
        let mut works: Vec<&Work> = self.0.keys().collect();
        works.sort_by_key(|work| work.order());
        works.into_iter().filter_map(|work| self.line(work)).try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// The division of a product on a GPU of this compute capability.
pub(super) fn cut(work: &Work, capability: (i32, i32)) -> Cut {
    if TUNING.load(Ordering::Relaxed) {
        let mut tuning = STATE.lock().unwrap_or_else(PoisonError::into_inner);
        if !work.sizes.contains(&0) && !tuning.seen.contains(work) {
            tuning.seen.push(*work);
        }
        if let Some((_, cut)) = tuning.forced.filter(|(forced, _)| forced == work) {
            return cut;
        }
    }
    BUILT_IN.cut(work, capability)
}

/// What a bench that tunes has asked for.
struct Tuning {
    seen: Vec<Work>,
    forced: Option<(Work, Cut)>,
}

static TUNING: AtomicBool = AtomicBool::new(false);
static STATE: Mutex<Tuning> = Mutex::new(Tuning { seen: Vec::new(), forced: None });

/// Divides this work as asked from now on, and everything else as ever; the products that were divided since the last call are returned.
/// For measurements: it changes the bits of results.
pub fn force(forced: Option<(Work, Cut)>) -> Vec<Work> {
    let mut tuning = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    TUNING.store(true, Ordering::Relaxed);
    tuning.forced = forced;
    std::mem::take(&mut tuning.seen)
}

#[cfg(test)]
mod tests {
    use super::super::cores::Cores;
    use super::super::work::Of;
    use super::*;

    fn work(rows: usize) -> Work {
        Work::new(Of::Matrices, Cores::Tf32, 4, [rows, 1024, 784], 1)
    }

    #[test]
    fn the_table_is_read_and_written_and_its_unmeasured_lines_are_the_models() {
        let text = include_str!("tiles.txt");
        let table = Table::read(text).unwrap();
        assert_eq!(table.to_string(), text);
        for (work, line) in &table.0 {
            // How operands would be packed is not in the table. `divisions_of_products_are_measured` makes all lines anew.
            assert!(
                line.by != MODEL || *line == Line::by_model(work) || line.tiles[0] == Tile::Large,
                "run `benches/cuda --tune FILE --model` again: {work}"
            );
        }
    }

    #[test]
    fn what_is_no_line_is_an_error_that_shows_it() {
        let good = format!("{}     4 large  medium large  model\n", work(100));
        let table = Table::read(&good).unwrap();
        assert_eq!(table.cut(&work(100), (8, 6)), Cut { tile: Tile::Large, parts: 4 });
        assert_eq!(table.cut(&work(100), (9, 0)), Cut { tile: Tile::Medium, parts: 4 });
        assert_eq!(table.cut(&work(100), (12, 0)), Cut { tile: Tile::Large, parts: 4 });
        assert_eq!(table.cut(&work(101), (9, 0)), model::cheapest(&work(101)));
        for bad in [
            good.repeat(2),
            good.replace("     4", "     0"),
            good.replace("large", "larger"),
            good.replace("model", ""),
            good.replace("model", "model 1"),
            good.replace("matmul", "product"),
            // there is no such kernel, and results on the CUDA cores would depend on the GPU
            good.replace("large", "small"),
            good.replace("tf32", "f32 "),
        ] {
            let error = Table::read(&bad).unwrap_err();
            assert!(error.contains(bad.lines().last().unwrap()), "{error}");
        }
    }

    #[test]
    fn a_measurement_fixes_the_parts_for_all_gpus_and_the_tile_for_its_own() {
        let mut table = Table::default();
        let work = work(100);
        let before = model::cheapest(&work);
        assert!(table.candidates(&work).len() > 3 && table.candidates(&work)[0] == before);
        let found = Cut { tile: Tile::Medium, parts: 2 };
        assert_eq!(before.tile, Tile::Large);
        table.measured(&work, (9, 0), found);
        assert_eq!([(9, 0), (8, 0)].map(|capability| table.cut(&work, capability)), [found, Cut { tile: Tile::Large, parts: 2 }]);
        let candidates = table.candidates(&work);
        assert!(candidates.len() == 2 && candidates.iter().all(|cut| cut.parts == 2), "{candidates:?}");
        table.measured(&work, (8, 9), found);
        table.measured(&work, (9, 0), Cut { tile: Tile::Large, parts: 2 });
        table.modelled(&work);
        assert_eq!(table.0[&work], Line { parts: 2, tiles: [Tile::Medium, Tile::Large, Tile::Large], by: "9.0,8.0".into() });

        let exact = Work::new(Of::Matrices, Cores::Cuda, 4, [100, 1024, 784], 1);
        let found = Cut { tile: Tile::Small, parts: 1 };
        table.measured(&exact, (9, 0), found);
        assert_eq!(table.candidates(&exact), [found]);
        assert_eq!([(8, 0), (9, 0), (10, 0)].map(|capability| table.cut(&exact, capability)), [found; 3]);
        assert_eq!(Table::read(&table.to_string()).unwrap().0, table.0);
    }
}
