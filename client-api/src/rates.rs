//! How much each device may report: a bucket of items that fills with time.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use model::{DeviceRef, MOST_REPORTED, Timestamp};

/// One device's share, for one kind of report.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rate {
    /// Items in a second, for as long as it likes.
    pub(crate) per_second: f64,
    /// Items at once, after a pause.
    pub(crate) burst: f64,
}

/// The buckets of all devices. Bounded by [`DEVICES`]: a full bucket is as good as none.
#[derive(Debug)]
pub(crate) struct Rates {
    rate: Rate,
    buckets: Mutex<HashMap<DeviceRef, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    items: f64,
    at: Timestamp,
}

impl Rates {
    pub(crate) fn new(rate: Rate) -> Self {
        // A report of the largest size has to go through at some time.
        let burst = rate.burst.max(MOST_REPORTED as f64);
        Self { rate: Rate { burst, ..rate }, buckets: Mutex::default() }
    }

    /// Takes so many items out of the device's bucket, or says when they will be there.
    pub(crate) fn take(&self, device: &DeviceRef, items: usize, now: Timestamp) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= DEVICES && !buckets.contains_key(device) {
            buckets.retain(|_, bucket| bucket.at(now, self.rate).items < self.rate.burst);
            if buckets.len() >= DEVICES {
                return Err(Duration::from_secs(1));
            }
        }
        let full = Bucket { items: self.rate.burst, at: now };
        let bucket = buckets.entry(device.clone()).or_insert(full);
        *bucket = bucket.at(now, self.rate);
        let lacking = items as f64 - bucket.items;
        if lacking > 0.0 {
            return Err(Duration::from_secs_f64(lacking / self.rate.per_second));
        }
        bucket.items -= items as f64;
        Ok(())
    }
}

impl Bucket {
    fn at(self, now: Timestamp, rate: Rate) -> Self {
        // A clock that was set back fills nothing, and must not stop it from filling.
        let gained = now.since(self.at).as_secs_f64() * rate.per_second;
        Self { items: (self.items + gained).min(rate.burst), at: now }
    }
}

const DEVICES: usize = 100_000;

#[cfg(test)]
mod tests {
    use model::TenantName;

    use super::*;

    fn device(number: usize) -> DeviceRef {
        DeviceRef::new(TenantName::default(), format!("cam-{number}").parse().unwrap())
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp(1_800_000_000_000 + millis)
    }

    #[test]
    fn a_device_has_its_burst_and_then_its_rate_and_harms_no_other() {
        let rates = Rates::new(Rate { per_second: 100.0, burst: 1000.0 });
        assert_eq!(rates.take(&device(1), 500, at(0)), Ok(()));
        assert_eq!(rates.take(&device(1), 500, at(0)), Ok(()));
        assert_eq!(rates.take(&device(1), 50, at(0)), Err(Duration::from_millis(500)));
        assert_eq!(rates.take(&device(2), 500, at(0)), Ok(()), "another device");
        assert_eq!(rates.take(&device(1), 50, at(499)), Err(Duration::from_millis(1)), "just before");
        assert_eq!(rates.take(&device(1), 50, at(500)), Ok(()), "when it was told to come again");
        assert_eq!(rates.take(&device(1), 500, at(3_600_000)), Ok(()));
        assert_eq!(rates.take(&device(1), 500, at(3_600_000)), Ok(()));
        assert!(
            rates.take(&device(1), 500, at(3_600_000)).is_err(),
            "a long pause saves up no more than a burst"
        );
        assert!(rates.take(&device(1), 1, at(0)).is_err(), "a clock that was set back");
        assert_eq!(rates.take(&device(1), 1, at(10)), Ok(()), "does not stop the filling");
    }

    #[test]
    fn the_buckets_are_bounded_and_those_that_are_full_make_room() {
        let rates = Rates::new(Rate { per_second: 1.0, burst: 500.0 });
        for number in 0..DEVICES {
            rates.take(&device(number), 1, at(0)).unwrap();
        }
        assert!(rates.take(&device(DEVICES), 1, at(0)).is_err(), "no room for one more");
        assert_eq!(rates.take(&device(0), 1, at(0)), Ok(()), "those who have a place keep it");
        assert_eq!(rates.take(&device(DEVICES), 1, at(1000)), Ok(()));
        assert!(rates.buckets.lock().unwrap().len() < 10);
    }
}
