//! Lists, page by page, none of which is larger than the operator can hold.

use super::{
    connection::{Connection, REQUEST_TIMEOUT, RequestError, get},
    discovery::encoded,
    live::{List, Live},
    metrics::Verb,
};
use serde::de::DeserializeOwned;
use std::marker::PhantomData;

/// Objects per page: a page is in memory as a whole.
const PAGE: usize = 100;
/// More objects than any member has of one kind: a list that goes on for ever
/// ends here.
const MOST: usize = 200_000;

/// A list that is read.
pub(super) struct Pages<'a, T = Live> {
    connection: &'a Connection,
    path: String,
    /// Where the next page begins; none after the last.
    next: Option<String>,
    size: usize,
    read: usize,
    /// Bytes that were read.
    pub bytes: usize,
    items: PhantomData<fn() -> T>,
}

impl<'a, T: DeserializeOwned> Pages<'a, T> {
    /// Of a path with its query.
    pub fn of(connection: &'a Connection, path: String) -> Self {
        Self {
            connection,
            path,
            next: Some(String::new()),
            size: PAGE,
            read: 0,
            bytes: 0,
            items: PhantomData,
        }
    }

    /// The next page; none after the last. Where objects are so large that a
    /// page is refused, the next ones are smaller.
    ///
    /// # Errors
    /// When there is no good answer, or no end.
    pub async fn next(&mut self) -> Result<Option<List<T>>, RequestError> {
        let Some(next) = &self.next else {
            return Ok(None);
        };
        if self.read >= MOST {
            return Err(RequestError::Unreadable(format!(
                "the list has more than {MOST} objects"
            )));
        }
        let page: List<T> = loop {
            let path = format!(
                "{}&limit={}&continue={}",
                self.path,
                self.size,
                encoded(next)
            );
            let answer = self
                .connection
                .call(Verb::List, get(&path)?, REQUEST_TIMEOUT)
                .await;
            match answer {
                Err(RequestError::TooLarge(_)) if self.size > 1 => {
                    self.size = (self.size / 10).max(1);
                }
                answer => {
                    let answer = answer?;
                    self.bytes += answer.body.len();
                    break answer.json()?;
                }
            }
        };
        // A page without objects counts as a full one: there may be no end of them.
        self.read += match page.items.len() {
            0 => PAGE,
            items => items,
        };
        self.next = Some(page.metadata.r#continue.clone()).filter(|next| !next.is_empty());
        Ok(Some(page))
    }
}
