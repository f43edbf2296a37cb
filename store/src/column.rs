//! From columns to words of the house. A value that does not parse is a fault of the database, never a panic.

use std::{fmt::Display, str::FromStr};

use model::{Fingerprint, Serial, Timestamp};
use sqlx::{Row, sqlite::SqliteRow};

use crate::StoreError;

pub(crate) fn text<T>(row: &SqliteRow, column: &'static str) -> Result<T, StoreError>
where
    T: FromStr,
    T::Err: Display,
{
    parse(column, row.try_get::<&str, _>(column)?)
}

pub(crate) fn optional_text<T>(row: &SqliteRow, column: &'static str) -> Result<Option<T>, StoreError>
where
    T: FromStr,
    T::Err: Display,
{
    row.try_get::<Option<&str>, _>(column)?.map(|text| parse(column, text)).transpose()
}

pub(crate) fn parse<T>(column: &'static str, text: &str) -> Result<T, StoreError>
where
    T: FromStr,
    T::Err: Display,
{
    text.parse().map_err(|error: T::Err| StoreError::Corrupt { what: column, detail: error.to_string() })
}

pub(crate) fn time(row: &SqliteRow, column: &'static str) -> Result<Timestamp, StoreError> {
    Ok(Timestamp(row.try_get(column)?))
}

pub(crate) fn optional_time(row: &SqliteRow, column: &'static str) -> Result<Option<Timestamp>, StoreError> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(Timestamp))
}

pub(crate) fn octets<const N: usize>(row: &SqliteRow, column: &'static str) -> Result<[u8; N], StoreError> {
    array(column, row.try_get(column)?)
}

pub(crate) fn optional_octets<const N: usize>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<Option<[u8; N]>, StoreError> {
    row.try_get::<Option<&[u8]>, _>(column)?.map(|octets| array(column, octets)).transpose()
}

pub(crate) fn fingerprint(row: &SqliteRow, column: &'static str) -> Result<Option<Fingerprint>, StoreError> {
    Ok(optional_octets(row, column)?.map(Fingerprint))
}

pub(crate) fn serial(row: &SqliteRow, column: &'static str) -> Result<Serial, StoreError> {
    octets(row, column).map(Serial)
}

/// For the database, whose numbers end earlier.
pub(crate) fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Counts and sequence numbers are never negative.
pub(crate) fn number(column: &'static str, value: i64) -> Result<u64, StoreError> {
    u64::try_from(value)
        .map_err(|_| StoreError::Corrupt { what: column, detail: format!("{value} is negative") })
}

fn array<const N: usize>(column: &'static str, octets: &[u8]) -> Result<[u8; N], StoreError> {
    octets.try_into().map_err(|_| StoreError::Corrupt {
        what: column,
        detail: format!("{} octets instead of {N}", octets.len()),
    })
}
