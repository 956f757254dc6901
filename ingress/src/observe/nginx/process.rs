//! What the kernel knows of this process: proc(5).

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;

use super::one;

/// `USER_HZ` of Linux, in which processor time is told to programs.
const TICKS: u64 = 100;

/// This process.
pub(super) struct Process {
    /// Processor time in seconds.
    cpu: f64,
    /// Bytes.
    resident: u64,
    virtual_memory: u64,
}

impl Process {
    /// `None` where /proc is not there.
    pub(super) fn read() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The name of the program may have blanks; behind it the third field comes.
        let (_, fields) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let kibibytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_ascii_whitespace().next()?.parse::<u64>().ok()
        };
        Some(Self {
            cpu: (field(14)? + field(15)?) as f64 / TICKS as f64,
            resident: kibibytes("VmRSS:")? * 1024,
            virtual_memory: kibibytes("VmSize:")? * 1024,
        })
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        // Whole seconds would be too coarse, and the format's counters are either whole or of another type.
        one(encoder, "nginx_process_cpu_seconds_total", "Processor time in seconds", self.cpu)?;
        one(encoder, "nginx_process_resident_memory_bytes", "Resident memory in bytes", bytes(self.resident))?;
        one(encoder, "nginx_process_virtual_memory_bytes", "Virtual memory in bytes", bytes(self.virtual_memory))?;
        one(encoder, "nginx_process_num_procs", "Processes", 1)
    }
}

fn bytes(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
