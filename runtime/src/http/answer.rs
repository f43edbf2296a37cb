//! Answers of small calls: JSON that nobody stores, and lists in pages.

use std::str::FromStr;

use axum::body::Body;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use model::{Code, Refusal, TenantName};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::problem::fault;

/// 200 with JSON that no cache keeps.
pub fn ok(body: &impl Serialize) -> Response<Body> {
    answer(StatusCode::OK, body)
}

/// The same with another status.
pub fn answer(status: StatusCode, body: &impl Serialize) -> Response<Body> {
    let Ok(text) = serde_json::to_string(body) else {
        return fault("writing JSON", &"a value does not serialize");
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// 204, of which there is nothing to say.
pub fn done() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// The query of a list: which page of it.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Paging {
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
    /// How many items a page has: 100 where nothing is asked.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

impl Paging {
    /// How many items a page has: 100 where nothing was asked.
    ///
    /// # Errors
    /// For a number outside 1 to 500.
    pub fn limit(&self) -> Result<u32, Refusal> {
        match self.limit {
            None => Ok(USUAL_PAGE),
            Some(limit @ 1..=LONGEST_PAGE) => Ok(limit),
            Some(_) => Err(Refusal::new(Code::BadRequest, format!("limit: from 1 to {LONGEST_PAGE}"))),
        }
    }

    /// The `next_cursor` of the page before, as what it was made of.
    ///
    /// # Errors
    /// For a cursor that no page gave.
    pub fn after<T: FromStr>(&self) -> Result<Option<T>, Refusal> {
        let bad = || Refusal::new(Code::BadRequest, "cursor: take the `next_cursor` of the page before");
        self.cursor.as_deref().map(|text| text.parse().map_err(|_| bad())).transpose()
    }
}

/// The query of a call that concerns one tenant: `default` where it names none.
#[derive(Debug, Default, Deserialize)]
pub struct OfTenant {
    /// Which.
    #[serde(default)]
    pub tenant: TenantName,
}

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// What to ask the next page with; `null` on the last one.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// Makes a page of `limit` items of a list that was asked for one more, which tells whether there is a next page.
    pub fn cut(mut items: Vec<T>, limit: u32, cursor: impl FnOnce(&T) -> String) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let has_more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items.last().filter(|_| has_more).map(cursor);
        Self { items, next_cursor }
    }

    /// A list that is short enough for one page.
    pub fn whole(items: Vec<T>) -> Self {
        Self { items, next_cursor: None }
    }

    /// The same page with its items shown in another way.
    pub fn map<U>(self, show: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(show).collect(), next_cursor: self.next_cursor }
    }
}

const USUAL_PAGE: u32 = 100;
const LONGEST_PAGE: u32 = 500;

#[cfg(test)]
mod tests {
    use http::Uri;

    use super::*;
    use crate::http::query;

    fn paging(text: &str) -> Result<Paging, Refusal> {
        query(&format!("/x?{text}").parse::<Uri>().unwrap())
    }

    #[test]
    fn a_page_is_asked_for_within_bounds_and_with_a_cursor_that_was_given() {
        assert_eq!(paging("").unwrap().limit().unwrap(), 100);
        assert_eq!(paging("limit=500&tenant=acme").unwrap().limit().unwrap(), 500);
        for bad in ["limit=0", "limit=501"] {
            assert_eq!(paging(bad).unwrap().limit().unwrap_err().http_status(), 400, "{bad}");
        }
        assert_eq!(paging("cursor=7").unwrap().after::<u64>().unwrap(), Some(7));
        assert_eq!(paging("").unwrap().after::<u64>().unwrap(), None);
        assert_eq!(paging("cursor=x").unwrap().after::<u64>().unwrap_err().http_status(), 400);
    }

    #[test]
    fn only_a_page_with_something_after_it_has_a_cursor() {
        let cut = |items: Vec<u8>| {
            let page = Page::cut(items, 2, u8::to_string).map(|item| item + 1);
            (page.items, page.next_cursor)
        };
        assert_eq!(cut(vec![]), (vec![], None));
        assert_eq!(cut(vec![1, 2]), (vec![2, 3], None));
        assert_eq!(cut(vec![1, 2, 3]), (vec![2, 3], Some("2".into())));
    }
}
