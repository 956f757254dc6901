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
    spread: String,
}

impl Row {
    /// A row without a budget.
    pub(crate) fn new(name: &str, unit: &'static str, cells: Vec<Cell>) -> Self {
        Self { name: name.to_owned(), unit, cells, budget: String::new(), spread: String::new() }
    }

    /// The ingress may use this much of what nginx uses.
    pub(crate) fn budget_ratio(self, ratio: Option<f64>) -> Self {
        Self { budget: ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}x")), ..self }
    }

    /// From the least to the greatest ratio to the first one.
    pub(crate) fn spread(self, spread: Option<(f64, f64)>) -> Self {
        let text = spread.map(|(least, greatest)| format!("{least:.2}-{greatest:.2}"));
        Self { spread: text.unwrap_or_default(), ..self }
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
    let _ = writeln!(text, "{:>10}{:>12}", "budget", "spread");
    for row in rows {
        let _ = write!(text, "{:24}{:16}", row.name, row.unit);
        let first = row.cells.first().map_or(1.0, |cell| cell.value);
        for (index, Cell { value, decimals }) in row.cells.iter().enumerate() {
            let ratio = if index == 0 { String::new() } else { format!("({:.2}x)", value / first) };
            let shown = format!("{value:.decimals$} {ratio:>7}");
            let _ = write!(text, "{shown:>COLUMN$}");
        }
        let _ = write!(text, "{:>10}{:>12}", row.budget, row.spread);
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// The same as a table of Markdown, below the machine.
pub(crate) fn markdown(names: &[&str], rows: &[Row]) -> String {
    let mut text = format!("{}\n\n| | | {} | budget | spread |\n", machine(), names.join(" | "));
    let _ = writeln!(text, "|---|---|{}---|---|", "---:|".repeat(names.len()));
    for row in rows {
        let first = row.cells.first().map_or(1.0, |cell| cell.value);
        let cells = row.cells.iter().enumerate().map(|(index, Cell { value, decimals })| match index {
            0 => format!("{value:.decimals$}"),
            _ => format!("{value:.decimals$} ({:.2})", value / first),
        });
        let cells: Vec<_> = cells.collect();
        let _ =
            writeln!(text, "| {} | {} | {} | {} | {} |", row.name, row.unit, cells.join(" | "), row.budget, row.spread);
    }
    text.push_str("\n![processor time for each request, as a ratio to the first one](bench.svg)\n");
    text
}

const BAR: usize = 12;
const SCALE: f64 = 200.0;
const LEFT: usize = 180;
const COLOURS: [&str; 6] = ["#999999", "#56b4e9", "#e69f00", "#cc79a7", "#009e73", "#0072b2"];

/// Processor time for each request as bars, each a ratio to the first proxy.
pub(crate) fn picture(names: &[&str], rows: &[Row]) -> String {
    let rows: Vec<_> = rows.iter().filter(|row| row.unit.starts_with("CPU")).collect();
    let (group, head) = (names.len() * BAR + BAR, 24);
    let (width, height) = (LEFT + 640, head + rows.len() * group + BAR);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"11\"><rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (index, name) in names.iter().enumerate() {
        let (x, colour) = (LEFT + index * 100, COLOURS[index % COLOURS.len()]);
        let _ = writeln!(text, "<rect x=\"{x}\" y=\"6\" width=\"10\" height=\"10\" fill=\"{colour}\"/>");
        let _ = writeln!(text, "<text x=\"{}\" y=\"15\">{name}</text>", x + 14);
    }
    for (place, row) in rows.iter().enumerate() {
        let top = head + place * group;
        let _ = writeln!(text, "<text x=\"4\" y=\"{}\">{}</text>", top + BAR, row.name);
        let first = row.cells.first().map_or(1.0, |cell| cell.value);
        for (index, cell) in row.cells.iter().enumerate() {
            let (ratio, y, colour) = (cell.value / first, top + index * BAR, COLOURS[index % COLOURS.len()]);
            let long = (ratio * SCALE).min(560.0);
            let _ = writeln!(
                text,
                "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{long:.0}\" height=\"{}\" fill=\"{colour}\"/>\
                 <text x=\"{:.0}\" y=\"{}\">{ratio:.2}</text>",
                BAR - 2,
                LEFT as f64 + long + 4.0,
                y + BAR - 3
            );
        }
    }
    text.push_str("</svg>\n");
    text
}

/// The value below which a part of them lies; `sorted` from the least to the greatest.
pub(crate) fn percentile(sorted: &[u64], part: f64) -> u64 {
    let place = (sorted.len() as f64 * part).ceil();
    // From 1 to the number of values.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a place among them")]
    let index = (place as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(index).copied().unwrap_or_default()
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
