//! Places between the steps of an act where a test makes the process die. Debug builds alone heed them.

use std::{fmt, sync::Arc};

/// Calls a hook after each step. Without one, which is always so in a release build, it does nothing.
pub struct FaultPoints<S>(Option<Arc<dyn Fn(S) + Send + Sync>>);

impl<S: Copy + PartialEq + Send + Sync + 'static> FaultPoints<S> {
    /// The process aborts after this step, as if killed: no destructor runs, nothing is flushed.
    pub fn abort_after(last: S) -> Self {
        Self::calling(move |step| {
            if step == last {
                std::process::abort();
            }
        })
    }

    /// A hook of the test's own.
    pub fn calling(hook: impl Fn(S) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(hook)))
    }

    /// Says that a step has just been done.
    pub fn reached(&self, step: S) {
        if cfg!(debug_assertions)
            && let Some(hook) = &self.0
        {
            hook(step);
        }
    }
}

impl<S> Clone for FaultPoints<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S> Default for FaultPoints<S> {
    fn default() -> Self {
        Self(None)
    }
}

impl<S> fmt::Debug for FaultPoints<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "FaultPoints(set)" } else { "FaultPoints(none)" })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::FaultPoints;

    #[test]
    fn a_hook_hears_every_step_and_none_is_as_good_as_nothing() {
        let heard = Arc::new(Mutex::new(vec![]));
        let log = Arc::clone(&heard);
        let points = FaultPoints::calling(move |step: u8| log.lock().unwrap().push(step));
        for step in [1, 2] {
            points.clone().reached(step);
            FaultPoints::default().reached(step);
        }
        assert_eq!(*heard.lock().unwrap(), [1, 2]);
        assert_eq!(format!("{points:?}"), "FaultPoints(set)");
        assert_eq!(format!("{:?}", FaultPoints::<u8>::default()), "FaultPoints(none)");
    }
}
