//! How long a cloud takes to open its doors, with one certificate in its store and with a million.

use std::time::Duration;

use tests::{Cloud, EnrolledDevice, run_within};
use tokio::time::Instant;

use crate::{
    choice::Choice,
    report::{OURS, Report},
};

pub(super) async fn measure(choice: &Choice, report: &mut Report) {
    println!("fleet: start with {} certificates", choice.certificates);
    let mut cloud = Cloud::plan().log_level("warn").start().await;
    let _device = EnrolledDevice::enrol(&cloud, "first").await;
    started(choice.rounds, &mut cloud, "start with one certificate", report).await;
    assert_eq!(cloud.stop().await, 0, "a cloud that is asked to stop says so");
    let file = cloud.data().join("tcpmux.db").display().to_string();
    let (script, count) = (COPIES.to_owned(), choice.certificates.saturating_sub(1).to_string());
    let words = ["-c".to_owned(), script, file, count.clone()];
    let done = run_within(Duration::from_secs(600), "python3", words, b"").await;
    assert_eq!(done.code, 0, "copies of a certificate: {}", done.stderr);
    assert_eq!(done.stdout.trim(), choice.certificates.to_string(), "as many rows as were asked for");
    cloud.start_again().await;
    let what = match choice.certificates {
        1_000_000 => "start with a million certificates".to_owned(),
        count => format!("start with {count} certificates"),
    };
    started(choice.rounds, &mut cloud, &what, report).await;
}

/// Kills it and times its next start, from the fork to the open doors.
async fn started(rounds: usize, cloud: &mut Cloud, what: &str, report: &mut Report) {
    for round in 0..rounds {
        report.round(round);
        cloud.kill();
        let begin = Instant::now();
        cloud.start_again().await;
        report.put("P12", what, "s", OURS, begin.elapsed().as_secs_f64());
    }
}

/// Copies the one certificate under other serials, keys and fingerprints, each for a device of its own.
const COPIES: &str = r#"
import hashlib, sqlite3, sys
file, count = sys.argv[1], int(sys.argv[2])
database = sqlite3.connect(file, isolation_level=None)
database.execute('PRAGMA journal_mode=DELETE')
database.execute('PRAGMA synchronous=OFF')
database.execute('PRAGMA cache_size=-1000000')
columns = [row[1] for row in database.execute('PRAGMA table_info(certificates)')]
row = dict(zip(columns, database.execute('SELECT * FROM certificates WHERE device IS NOT NULL LIMIT 1').fetchone()))
devices = [row[1] for row in database.execute('PRAGMA table_info(devices)')]
device = dict(zip(devices, database.execute('SELECT * FROM devices LIMIT 1').fetchone()))
def insert(table, columns):
    return 'INSERT INTO %s (%s) VALUES (%s)' % (table, ', '.join(columns), ', '.join('?' * len(columns)))
def digest(index, of):
    return hashlib.sha256(('%s %d' % (of, index)).encode()).digest()
def certificates():
    for index in range(count):
        copy = dict(row, device='copy-%d' % index, serial=b'\x01' + digest(index, 'serial')[:17],
                    spki_sha256=digest(index, 'key'), fingerprint=digest(index, 'certificate'),
                    idempotency=digest(index, 'request'), passcode=None)
        del copy['id']
        yield list(copy.values())
database.execute('BEGIN')
database.executemany(insert('devices', devices), (list(dict(device, id='copy-%d' % index).values()) for index in range(count)))
database.executemany(insert('certificates', [name for name in columns if name != 'id']), certificates())
database.execute('COMMIT')
print(database.execute('SELECT count(*) FROM certificates WHERE device IS NOT NULL').fetchone()[0])
database.execute('PRAGMA journal_mode=WAL')
"#;
