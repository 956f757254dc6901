//! The table.

use std::fmt::Write as _;

/// Width of a proxy's column.
const COLUMN: usize = 18;

/// One figure of one proxy.
pub(crate) struct Cell {
    pub(crate) value: f64,
    pub(crate) decimals: usize,
}

/// One figure of every proxy; the first one is what the others are compared with.
pub(crate) struct Row {
    name: String,
    unit: &'static str,
    cells: Vec<Cell>,
    budget: String,
}

impl Row {
    /// A row without a budget.
    pub(crate) fn new(name: &str, unit: &'static str, cells: Vec<Cell>) -> Self {
        Self { name: name.to_owned(), unit, cells, budget: String::new() }
    }

    /// The ingress may use this much of what nginx uses.
    pub(crate) fn budget_ratio(self, ratio: Option<f64>) -> Self {
        Self { budget: ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}x")), ..self }
    }

    /// The ingress may use this much.
    pub(crate) fn budget_value(self, value: Option<f64>) -> Self {
        Self { budget: value.map_or_else(String::new, |value| format!("{value:.0} {}", self.unit)), ..self }
    }
}

/// The rows below the proxies' names.
pub(crate) fn table(names: &[&str], rows: &[Row]) -> String {
    let mut text = format!("{:24}{:16}", "", "");
    for name in names {
        let _ = write!(text, "{name:>COLUMN$}");
    }
    let _ = writeln!(text, "{:>10}", "budget");
    for row in rows {
        let _ = write!(text, "{:24}{:16}", row.name, row.unit);
        let first = row.cells.first().map_or(1.0, |cell| cell.value);
        for (index, Cell { value, decimals }) in row.cells.iter().enumerate() {
            let ratio = if index == 0 { String::new() } else { format!("({:.2}x)", value / first) };
            let shown = format!("{value:.decimals$} {ratio:>7}");
            let _ = write!(text, "{shown:>COLUMN$}");
        }
        let _ = write!(text, "{:>10}", row.budget);
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// The middle one; of an even number the lower.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

/// What the figures depend on: processor, kernel and what else is going on.
pub(crate) fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model).to_owned();
    let load = read("/proc/loadavg");
    let load = load.split_whitespace().next().unwrap_or_default().to_owned();
    format!("{model}, Linux {}, load {load} before it began", read("/proc/sys/kernel/osrelease").trim())
}
