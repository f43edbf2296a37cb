//! `fields=`: which members of an event's data are sent. Pure.
//!
//! ```text
//! fields = branch *( "," branch )
//! branch = name *( "/" name ) [ "(" fields ")" ]
//! ```
//! Nothing selected, nothing sent.

use serde_json::{Map, Value};

use super::paths::{DEEPEST, FilterError, Step, Token, tokens};

/// A selection of members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fields(Vec<Branch>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Branch {
    step: Step,
    /// None: all that is beneath.
    beneath: Vec<Self>,
}

impl Fields {
    /// Reads a selection.
    pub(crate) fn parse(text: &str) -> Result<Self, FilterError> {
        let tokens = tokens(text, "/,()")?;
        if tokens.len() > MOST_TOKENS {
            return Err(FilterError::Syntax("fields: at most 256 names and marks"));
        }
        let mut reader = Reader { tokens: tokens.into_iter().peekable() };
        let branches = reader.branches(0)?;
        match reader.tokens.next() {
            None => Ok(Self(branches)),
            Some(_) => Err(FilterError::Syntax("fields: a `)` without its `(`")),
        }
    }

    /// What of this data is selected; `None` if nothing is.
    pub(crate) fn select(&self, data: &Value) -> Option<Value> {
        select(&self.0.iter().collect::<Vec<_>>(), data)
    }
}

struct Reader {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
}

impl Reader {
    fn branches(&mut self, depth: usize) -> Result<Vec<Branch>, FilterError> {
        let mut branches = vec![self.branch(depth)?];
        while self.tokens.next_if_eq(&Token::Mark(',')).is_some() {
            branches.push(self.branch(depth)?);
        }
        Ok(branches)
    }

    fn branch(&mut self, depth: usize) -> Result<Branch, FilterError> {
        if depth >= DEEPEST {
            return Err(FilterError::Syntax("fields: at most eight names deep"));
        }
        let step = self.tokens.next().and_then(Token::step);
        let step = step.ok_or(FilterError::Syntax("fields: a name is missing"))?;
        let beneath = if self.tokens.next_if_eq(&Token::Mark('/')).is_some() {
            vec![self.branch(depth + 1)?]
        } else if self.tokens.next_if_eq(&Token::Mark('(')).is_some() {
            let beneath = self.branches(depth + 1)?;
            self.tokens
                .next_if_eq(&Token::Mark(')'))
                .ok_or(FilterError::Syntax("fields: a `(` without its `)`"))?;
            beneath
        } else {
            vec![]
        };
        match self.tokens.peek() {
            None | Some(Token::Mark(',' | ')')) => Ok(Branch { step, beneath }),
            Some(_) => Err(FilterError::Syntax("fields: a `,` is missing")),
        }
    }
}

fn select(branches: &[&Branch], value: &Value) -> Option<Value> {
    match value {
        Value::Object(members) => {
            let mut selected = Map::new();
            for (name, member) in members {
                // Two branches may meet in one member, as in `a/b,a/c`: they go on together.
                let meeting = branches.iter().filter(|branch| branch.step.is(name));
                let part = match meeting.clone().count() {
                    0 => None,
                    _ if meeting.clone().any(|branch| branch.beneath.is_empty()) => Some(member.clone()),
                    _ => select(&meeting.flat_map(|branch| &branch.beneath).collect::<Vec<_>>(), member),
                };
                if let Some(part) = part {
                    selected.insert(name.clone(), part);
                }
            }
            (!selected.is_empty()).then_some(Value::Object(selected))
        }
        Value::Array(items) => {
            let items: Vec<Value> = items.iter().filter_map(|item| select(branches, item)).collect();
            (!items.is_empty()).then_some(Value::Array(items))
        }
        _ => None,
    }
}

const MOST_TOKENS: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_selected_is_sent() {
        let data = json!({
            "a": {"b": 1, "c": {"d": 2, "e": 3}, "x": {"c": 4}},
            "l": [{"m": 1, "n": 2}, {"n": 3}],
            "t": 21.5,
            "x,y": true,
        });
        for (fields, selected) in [
            ("t", json!({"t": 21.5})),
            ("t,zzz", json!({"t": 21.5})),
            ("a/b", json!({"a": {"b": 1}})),
            ("l/m,l/n", json!({"l": [{"m": 1, "n": 2}, {"n": 3}]})),
            ("l(m,n),*/b", json!({"a": {"b": 1}, "l": [{"m": 1, "n": 2}, {"n": 3}]})),
            ("a/c/d", json!({"a": {"c": {"d": 2}}})),
            ("a(b,c/e)", json!({"a": {"b": 1, "c": {"e": 3}}})),
            ("a/c(d,e),t", json!({"a": {"c": {"d": 2, "e": 3}}, "t": 21.5})),
            ("a/b,a/c/d", json!({"a": {"b": 1, "c": {"d": 2}}})),
            ("a/*/c", json!({"a": {"x": {"c": 4}}})),
            ("*", data.clone()),
            (r"x\,y", json!({"x,y": true})),
            ("l/m", json!({"l": [{"m": 1}]})),
        ] {
            assert_eq!(Fields::parse(fields).unwrap().select(&data), Some(selected), "{fields}");
        }
        for nothing in ["zzz", "a/zzz", "t/b", r"\*", "a/*/zzz"] {
            assert_eq!(Fields::parse(nothing).unwrap().select(&data), None, "{nothing}");
        }
    }

    #[test]
    fn what_is_not_a_selection_is_refused_with_its_reason() {
        for bad in
            ["", ",", "a,", ",a", "a//b", "/a", "a/", "a(b", "a)", "a()", "a(b))", "a(b)c", "(a)", "a(b)/c"]
        {
            assert!(matches!(Fields::parse(bad), Err(FilterError::Syntax(_))), "{bad}");
        }
        for bad in [r"\", r"a\b", r"a\"] {
            assert_eq!(Fields::parse(bad), Err(FilterError::Escape), "{bad}");
        }
        let deep = ["a"; DEEPEST + 1].join("/");
        assert!(matches!(Fields::parse(&deep), Err(FilterError::Syntax(_))));
        assert!(Fields::parse(&["a"; DEEPEST].join("/")).is_ok());
        assert!(matches!(Fields::parse(&"a".repeat(2049)), Err(FilterError::Syntax(_))));
        assert!(matches!(Fields::parse(&"a(".repeat(1000)), Err(FilterError::Syntax(_))));
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in r"[ab\\/,()*=:;]{0,64}") {
            let data = json!({"a": {"b": [{"a": 1}, 2]}, "b": "x"});
            if let Ok(fields) = Fields::parse(&text)
                && let Some(selected) = fields.select(&data)
            {
                // Everything selected was there, at the same place.
                prop_assert!(is_within(&selected, &data), "{text}: {selected}");
            }
        }
    }

    fn is_within(part: &Value, whole: &Value) -> bool {
        match (part, whole) {
            (Value::Object(part), Value::Object(whole)) => part
                .iter()
                .all(|(name, value)| whole.get(name).is_some_and(|inside| is_within(value, inside))),
            (Value::Array(part), Value::Array(whole)) => {
                part.iter().all(|value| whole.iter().any(|inside| is_within(value, inside)))
            }
            _ => part == whole,
        }
    }
}
