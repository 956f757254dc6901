//! Gives memory back to the system: code that only starting needed, and what the allocator keeps for later.
#![expect(unsafe_code, reason = "the kernel and the allocator are spoken to in C")]

use std::io;

// Brings the library along, whoever allocates.
use mimalloc as _;
use nix::libc;

unsafe extern "C" {
    /// Frees what the calling thread has no more use for; with `force`, it goes back to the system at once.
    fn mi_collect(force: bool);
}

/// Returns to the system what this thread has allocated and somebody has freed.
///
/// The allocator does so by itself only while the thread goes on allocating.
pub fn give_back() {
    // SAFETY: it may be called at any time and on any thread. Where another allocator is in use, as in tests, it finds
    // nothing to do.
    unsafe { mi_collect(true) }
}

/// Unmaps the pages of the program's and its libraries' code; those that are needed again come back from the page
/// cache one by one.
///
/// Starting runs through code that never runs again (the parsers of flags, of objects, of certificates), and the kernel
/// maps 16 pages around each that is touched. Code is never written to, so nothing is lost.
pub fn release_code() -> io::Result<()> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    maps.lines().filter_map(code).try_for_each(|(start, end)| unmap_until_used(start, end))
}

/// Unmaps the pages of a private, read-only mapping of a file: the next use of one brings it back.
///
/// The caller names whole mappings that are executable and not writable, as `/proc/self/maps` lists them.
fn unmap_until_used(start: usize, end: usize) -> io::Result<()> {
    let address = std::ptr::with_exposed_provenance_mut(start);
    // SAFETY: MADV_DONTNEED on a private mapping of a file makes the next access read the file's page again (madvise(2)).
    // The mapping isn't writable and has no private copies of pages (text relocations are not made on this platform), so
    // the page read again has the same bytes, and whatever runs or reads there meanwhile sees no difference. A range
    // that is no mapping any more is refused with ENOMEM.
    let outcome = unsafe { libc::madvise(address, end.saturating_sub(start), libc::MADV_DONTNEED) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
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
