//! The queue against power cuts, full disks and damage.

use super::*;
use disk::faults::{set_room, with_steps};

const ALL: BatchLimits = BatchLimits { items: 1000, bytes: 1 << 20 };

fn item(number: u64) -> NewRecord {
    let kind = if number.is_multiple_of(10) { ReportKind::Notification } else { ReportKind::Telemetry };
    NewRecord { kind, json: number.to_string().into_bytes() }
}

fn number(record: &Record) -> u64 {
    String::from_utf8(record.json.clone()).unwrap().parse().unwrap()
}

fn open(folder: &Path) -> Spool {
    Spool::open(folder, 1 << 30).unwrap()
}

fn put(spool: &mut Spool, numbers: impl IntoIterator<Item = u64>) -> Result<(), SpoolError> {
    let group = numbers.into_iter().map(item).collect();
    spool.append(vec![group], Timestamp(7)).pop().unwrap()
}

/// Everything that waits, acknowledged on the way.
fn drain(spool: &mut Spool) -> Vec<u64> {
    let mut all = vec![];
    loop {
        let batch = spool.peek(ALL).unwrap();
        if batch.is_empty() {
            return all;
        }
        all.extend(batch.iter().map(number));
        spool.acknowledge(&batch).unwrap();
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "spool"));
    found.sort();
    found
}

#[test]
fn items_leave_in_the_order_in_which_they_came_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path());
    put(&mut spool, 1..=25).unwrap();
    assert_eq!((spool.waiting(), spool.oldest()), (25, Some(Timestamp(7))));
    let first = spool.peek(ALL).unwrap();
    assert_eq!(first.iter().map(number).collect::<Vec<_>>(), (1..=9).collect::<Vec<_>>(), "of one kind");
    spool.acknowledge(&first[..4]).unwrap();
    drop(spool);
    let mut spool = open(folder.path());
    assert_eq!((spool.waiting(), spool.oldest()), (21, Some(Timestamp(7))));
    put(&mut spool, 26..=30).unwrap();
    assert_eq!(drain(&mut spool), (5..=30).collect::<Vec<_>>());
    assert_eq!((spool.waiting(), spool.oldest()), (0, None));
    drop(spool);
    assert_eq!(drain(&mut open(folder.path())), Vec::<u64>::new());
}

#[test]
fn a_batch_keeps_its_limits_and_has_at_least_one_item() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path());
    put(&mut spool, 101..=109).unwrap();
    assert_eq!(spool.peek(BatchLimits { items: 4, bytes: 1000 }).unwrap().len(), 4);
    assert_eq!(spool.peek(BatchLimits { items: 100, bytes: 12 }).unwrap().len(), 3);
    assert_eq!(spool.peek(BatchLimits { items: 100, bytes: 1 }).unwrap().len(), 1);
}

#[test]
fn files_are_removed_as_the_cloud_has_them_and_the_queue_stays_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path());
    let mut sent = vec![];
    for round in 0..60 {
        let text = |number: u64| format!("{number:0>20000}").into_bytes();
        let group = (0..10).map(|at| NewRecord { kind: ReportKind::Telemetry, json: text(round * 10 + at) });
        spool.append(vec![group.collect()], Timestamp(1)).pop().unwrap().unwrap();
        if round >= 5 {
            let batch = spool.peek(BatchLimits { items: 10, bytes: 1 << 20 }).unwrap();
            sent.extend(batch.iter().map(number));
            spool.acknowledge(&batch).unwrap();
        }
        assert!(files(folder.path()).len() <= 5, "{:?}", files(folder.path()));
    }
    sent.extend(drain(&mut spool));
    assert_eq!(sent, (0..600).collect::<Vec<_>>());
    assert!(spool.bytes() < SEGMENT_BYTES);
}

#[test]
fn a_full_queue_refuses_new_items_and_keeps_the_old_ones() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), 1000).unwrap();
    let mut taken = 0;
    while put(&mut spool, [taken + 1]).is_ok() {
        taken += 1;
    }
    assert!(taken > 20 && spool.bytes() <= 1000, "{taken}");
    assert!(matches!(put(&mut spool, [0]), Err(SpoolError::Full(1000))));
    let both = spool.append(vec![vec![item(0); 50], vec![]], Timestamp(1));
    assert!(both[0].is_err() && both[1].is_ok(), "one group does not harm another");
    drop(spool);
    assert_eq!(drain(&mut Spool::open(folder.path(), 1000).unwrap()), (1..=taken).collect::<Vec<_>>());
}

#[test]
fn a_full_disk_is_told_and_costs_nothing_that_was_taken_in() {
    for room in 0..60 {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = open(folder.path());
        put(&mut spool, [1, 2]).unwrap();
        set_room(room);
        let refused = put(&mut spool, [3, 4]);
        set_room(usize::MAX);
        assert!(matches!(refused, Err(SpoolError::DiskFull)), "{refused:?}");
        put(&mut spool, [5]).unwrap();
        drop(spool);
        assert_eq!(drain(&mut open(folder.path())), [1, 2, 5], "room for {room} bytes");
    }
}

#[test]
fn the_end_of_the_process_between_any_two_steps_loses_nothing_that_was_promised() {
    for seed in 0..12 {
        let folder = tempfile::tempdir().unwrap();
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut promised, mut offered, mut seen) = (vec![], 0, vec![]);
        for _ in 0..20 {
            let (promises, sights) = (&mut promised, &mut seen);
            with_steps(random.usize(..12), || {
                let mut spool = open(folder.path());
                for _ in 0..random.usize(1..4) {
                    let group: Vec<u64> = (0..random.u64(1..6)).map(|at| offered + 1 + at).collect();
                    offered += group.len() as u64;
                    if put(&mut spool, group.clone()).is_ok() {
                        promises.extend(group);
                    }
                    let batch = spool.peek(BatchLimits { items: random.usize(1..6), bytes: 1000 }).unwrap();
                    sights.extend(batch.iter().map(number));
                    spool.acknowledge(&batch).unwrap();
                }
            });
        }
        seen.extend(drain(&mut open(folder.path())));
        // The cloud knows an item that it sees again by its id.
        let mut known = std::collections::BTreeSet::new();
        seen.retain(|number| known.insert(*number));
        assert!(promised.len() > 10, "seed {seed}: {promised:?}");
        assert!(seen.is_sorted(), "seed {seed}: {seen:?}");
        let lost: Vec<_> = promised.iter().filter(|number| !known.contains(number)).collect();
        assert!(lost.is_empty(), "seed {seed} lost {lost:?}");
    }
}

#[test]
fn damage_at_any_byte_costs_one_item_at_most_and_never_the_daemon() {
    let template = tempfile::tempdir().unwrap();
    let mut spool = open(template.path());
    put(&mut spool, 11..=15).unwrap();
    drop(spool);
    put(&mut open(template.path()), 16..=19).unwrap();
    let names: Vec<_> = files(template.path());
    assert_eq!(names.len(), 2);
    for name in &names {
        let content = fs::read(name).unwrap();
        for at in 0..content.len() {
            let folder = tempfile::tempdir().unwrap();
            for name in &names {
                fs::copy(name, folder.path().join(name.file_name().unwrap())).unwrap();
            }
            let mut bad = content.clone();
            bad[at] = !bad[at];
            fs::write(folder.path().join(name.file_name().unwrap()), bad).unwrap();
            let mut spool = open(folder.path());
            put(&mut spool, [21]).unwrap();
            let left = drain(&mut spool);
            assert!(left.is_sorted() && left.len() == 9 && left.last() == Some(&21), "byte {at}: {left:?}");
        }
    }
}

#[test]
fn what_is_damaged_while_the_daemon_runs_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path());
    put(&mut spool, 1..=3).unwrap();
    let file = &files(folder.path())[0];
    let length = fs::metadata(file).unwrap().len() as usize;
    fs::write(file, vec![0; length]).unwrap();
    assert_eq!(spool.peek(ALL).unwrap(), []);
    assert_eq!(spool.waiting(), 0);
    put(&mut spool, 4..=5).unwrap();
    assert_eq!(drain(&mut spool), [4, 5]);
}

#[test]
fn a_lost_cursor_means_that_items_are_sent_again_and_a_broken_one_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path());
    put(&mut spool, 1..=5).unwrap();
    let batch = spool.peek(BatchLimits { items: 2, bytes: 1000 }).unwrap();
    spool.acknowledge(&batch).unwrap();
    drop(spool);
    fs::write(folder.path().join("acknowledged"), [0xff; 12]).unwrap();
    assert_eq!(drain(&mut open(folder.path())), [1, 2, 3, 4, 5]);
}

#[test]
fn others_cannot_read_what_waits() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("spool");
    put(&mut open(&folder), [1]).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&files(&folder)[0])), (0o700, 0o600));
}
