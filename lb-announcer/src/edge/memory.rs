//! Gives back memory that only starting needed.

use std::io;

use super::sys;

/// Unmaps the pages of the program's and its libraries' code; those that are needed again come back from the page
/// cache one by one.
///
/// Starting runs through code that never runs again (the parsers of flags, of objects, of certificates), and the kernel
/// maps 16 pages around each that is touched. Code is never written to, so nothing is lost.
pub fn release_code() -> io::Result<()> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    maps.lines().filter_map(code).try_for_each(|(start, end)| sys::unmap_until_used(start, end))
}

/// The first and last address of a mapping of code from a file, as `/proc/self/maps` tells it (proc(5)).
fn code(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let (permissions, path) = (fields.next()?, fields.nth(3)?);
    let range = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    (permissions == "r-xp" && path.starts_with('/')).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_from_files_is_given_back() {
        let cases = [
            ("1000-3000 r-xp 00001000 fe:01 77 /usr/bin/a", Some((0x1000, 0x3000))),
            ("1000-3000 r--p 00001000 fe:01 77 /usr/bin/a", None),
            ("1000-3000 rw-p 00001000 fe:01 77 /usr/bin/a", None),
            ("1000-3000 r-xp 00000000 00:00 0 [vdso]", None),
            ("1000-3000 r-xp 00000000 00:00 0", None),
            ("", None),
        ];
        for (line, expected) in cases {
            assert_eq!(code(line), expected, "{line}");
        }
    }

    #[test]
    fn the_program_goes_on_without_its_code() {
        release_code().unwrap();
        assert_eq!(code("0-1 r-xp 0 0:0 0 /x"), Some((0, 1)));
    }
}
