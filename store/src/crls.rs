//! The last certificate revocation list of each issuer, and the numbers that only grow.

use model::Timestamp;
use sqlx::Row;

use crate::{IssuerName, Store, StoreError, column};

/// A published list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrlRow {
    /// Its number (RFC 5280 §5.2.3).
    pub number: u64,
    /// The signed list.
    pub der: Vec<u8>,
    /// When it was made.
    pub this_update: Timestamp,
    /// When the next one is due.
    pub next_update: Timestamp,
}

impl Store {
    /// Takes the next number for an issuer's list, before the list is made: greater than any taken,
    /// and at least `floor`. With the seconds of the clock as the floor, numbers grow even across a
    /// restored backup.
    pub async fn next_crl_number(&self, issuer: IssuerName, floor: u64) -> Result<u64, StoreError> {
        let floor = i64::try_from(floor).unwrap_or(i64::MAX);
        self.write(move |c| {
            Box::pin(async move {
                let number: i64 = sqlx::query_scalar(
                    "INSERT INTO counters (name, value) VALUES ('crl.' || ?, max(?, 1))
                     ON CONFLICT (name) DO UPDATE SET value = max(value + 1, excluded.value) RETURNING value",
                )
                .bind(issuer.as_str())
                .bind(floor)
                .fetch_one(c)
                .await?;
                column::number("crl", number)
            })
        })
        .await
    }

    /// Keeps an issuer's newest list. An older number than the one kept is a conflict.
    pub async fn put_crl(&self, issuer: IssuerName, crl: CrlRow) -> Result<(), StoreError> {
        self.write(move |c| {
            Box::pin(async move {
                let put = sqlx::query(
                    "INSERT INTO crls (issuer, number, der, this_update, next_update) VALUES (?, ?, ?, ?, ?)
                     ON CONFLICT (issuer) DO UPDATE SET number = excluded.number, der = excluded.der,
                         this_update = excluded.this_update, next_update = excluded.next_update
                     WHERE excluded.number > number",
                )
                .bind(issuer.as_str())
                .bind(i64::try_from(crl.number).unwrap_or(i64::MAX))
                .bind(crl.der)
                .bind(crl.this_update.0)
                .bind(crl.next_update.0)
                .execute(c)
                .await?;
                if put.rows_affected() == 0 {
                    return Err(StoreError::Conflict { what: "a CRL of a newer number is published" });
                }
                Ok(())
            })
        })
        .await
    }

    /// An issuer's newest list.
    pub async fn crl(&self, issuer: IssuerName) -> Result<Option<CrlRow>, StoreError> {
        self.read(move |c| {
            Box::pin(async move {
                let row = sqlx::query("SELECT * FROM crls WHERE issuer = ?")
                    .bind(issuer.as_str())
                    .fetch_optional(c)
                    .await?;
                row.map(|row| {
                    Ok(CrlRow {
                        number: column::number("number", row.try_get("number")?)?,
                        der: row.try_get("der")?,
                        this_update: column::time(&row, "this_update")?,
                        next_update: column::time(&row, "next_update")?,
                    })
                })
                .transpose()
            })
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(number: u64) -> CrlRow {
        CrlRow { number, der: vec![1], this_update: Timestamp(1), next_update: Timestamp(2) }
    }

    #[tokio::test]
    async fn numbers_only_grow_and_a_lower_one_is_not_published() {
        let store = Store::in_memory().await.unwrap();
        let issuer = IssuerName::Devices;
        assert_eq!(store.next_crl_number(issuer, 100).await.unwrap(), 100);
        assert_eq!(store.next_crl_number(issuer, 50).await.unwrap(), 101);
        assert_eq!(store.next_crl_number(IssuerName::Services, 0).await.unwrap(), 1);
        store.put_crl(issuer, list(101)).await.unwrap();
        for stale in [100, 101] {
            let refused = store.put_crl(issuer, list(stale)).await;
            assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{stale}");
        }
        assert_eq!(store.crl(issuer).await.unwrap(), Some(list(101)));
        assert_eq!(store.crl(IssuerName::Services).await.unwrap(), None);
    }
}
