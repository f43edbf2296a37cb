//! Writing and flushing, where tests can let the disk be full or the power fail.

use std::{
    fs::File,
    io::{self, Write},
};

pub(super) fn write(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    let room = room();
    if bytes.len() > room {
        file.write_all(&bytes[..room])?;
        crash_point();
        return Err(io::ErrorKind::StorageFull.into());
    }
    file.write_all(bytes)?;
    crash_point();
    Ok(())
}

pub(super) fn flush(file: &File) -> io::Result<()> {
    file.sync_data()?;
    crash_point();
    Ok(())
}

#[cfg(not(test))]
fn room() -> usize {
    usize::MAX
}

#[cfg(not(test))]
pub(super) fn crash_point() {}

#[cfg(test)]
pub(super) use faults::{crash_point, room};

#[cfg(test)]
pub(super) mod faults {
    use std::{
        cell::Cell,
        panic::{self, AssertUnwindSafe},
    };

    thread_local! {
        static STEPS_LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
        static ROOM: Cell<usize> = const { Cell::new(usize::MAX) };
    }

    /// How many bytes of the next write still fit.
    pub(in crate::spool) fn room() -> usize {
        ROOM.get()
    }

    pub(in crate::spool) fn set_room(bytes: usize) {
        ROOM.set(bytes);
    }

    /// Stands for the end of the process between two steps.
    pub(in crate::spool) fn crash_point() {
        let left = STEPS_LEFT.get();
        if left == 0 {
            panic::panic_any("power cut");
        }
        STEPS_LEFT.set(left.saturating_sub(1));
    }

    /// Runs this until so many steps were made; `None` if it ended before its end.
    pub(in crate::spool) fn with_steps<T>(steps: usize, run: impl FnOnce() -> T) -> Option<T> {
        STEPS_LEFT.set(steps);
        let outcome = panic::catch_unwind(AssertUnwindSafe(run));
        STEPS_LEFT.set(usize::MAX);
        outcome.ok()
    }
}
