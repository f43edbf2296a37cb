//! `where=`: which events are sent, by what their data says. Pure.
//!
//! ```text
//! where     = condition *( ";" condition ) [ ";" ]
//! condition = name *( "/" name ) "=" [ operator ":" ] value *( "," value )
//! ```
//! All conditions have to hold. What is not there fulfils none.

use serde_json::Value;

use super::paths::{DEEPEST, FilterError, Step, Token, tokens};

/// Conditions on an event's data; without any, every event fulfils them.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Conditions(Vec<Condition>);

#[derive(Debug, Clone, PartialEq)]
struct Condition {
    path: Vec<Step>,
    test: Test,
}

#[derive(Debug, Clone, PartialEq)]
enum Test {
    /// A number, compared with this one.
    Number(Comparison, f64),
    /// A text that contains one of these (`in`), or none of them (`nin`).
    Text { parts: Vec<String>, wanted: bool },
    /// True or false.
    Bool(bool),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Conditions {
    /// Reads conditions; an empty text has none.
    pub(crate) fn parse(text: &str) -> Result<Self, FilterError> {
        let tokens = tokens(text, "/=:,;")?;
        if tokens.is_empty() {
            return Ok(Self::default());
        }
        let mut conditions: Vec<&[Token]> = tokens.split(|token| *token == Token::Mark(';')).collect();
        if conditions.len() > 1 {
            conditions.pop_if(|last| last.is_empty());
        }
        if conditions.len() > MOST_CONDITIONS {
            return Err(FilterError::Syntax("where: at most 16 conditions"));
        }
        conditions.into_iter().map(Condition::read).collect::<Result<_, _>>().map(Self)
    }

    /// Whether this data fulfils all of them.
    pub(crate) fn hold(&self, data: &Value) -> bool {
        self.0.iter().all(|condition| any(&condition.path, data, &|value| condition.test.holds(value)))
    }
}

impl Condition {
    fn read(tokens: &[Token]) -> Result<Self, FilterError> {
        let equals = tokens.iter().position(|token| *token == Token::Mark('='));
        let equals = equals.ok_or(FilterError::Syntax("where: a condition is name=operator:value"))?;
        let (path, compared) = (&tokens[..equals], &tokens[equals + 1..]);
        let operator = match compared {
            [Token::Text(operator, _), Token::Mark(':'), ..] => Some(operator.as_str()),
            _ => None,
        };
        let compared = if operator.is_some() { &compared[2..] } else { compared };
        let mut values = vec![];
        for value in compared.split(|token| *token == Token::Mark(',')) {
            match value {
                [Token::Text(value, _)] => values.push(value.clone()),
                // A path is one value where no operator looks into it.
                [] => values.push(String::new()),
                _ => return Err(FilterError::Syntax("where: put `\\` before a mark inside a value")),
            }
        }
        Ok(Self { path: read_path(path)?, test: Test::read(operator.unwrap_or("eq"), values)? })
    }
}

fn read_path(tokens: &[Token]) -> Result<Vec<Step>, FilterError> {
    let missing = FilterError::Syntax("where: a name is missing before `=`");
    let mut path = vec![];
    for step in tokens.split(|token| *token == Token::Mark('/')) {
        let [text] = step else { return Err(missing) };
        path.push(text.clone().step().ok_or(missing)?);
    }
    if path.len() > DEEPEST {
        return Err(FilterError::Syntax("where: at most eight names deep"));
    }
    Ok(path)
}

impl Test {
    fn read(operator: &str, values: Vec<String>) -> Result<Self, FilterError> {
        let comparison = match operator {
            "eq" => Comparison::Equal,
            "neq" => Comparison::NotEqual,
            "gt" => Comparison::Greater,
            "gte" => Comparison::GreaterOrEqual,
            "lt" => Comparison::Less,
            "lte" => Comparison::LessOrEqual,
            "in" | "nin" => {
                if values.len() > MOST_VALUES || values.iter().any(String::is_empty) {
                    return Err(FilterError::Arity);
                }
                return Ok(Self::Text { parts: values, wanted: operator == "in" });
            }
            "bool" => {
                return match one(&values)? {
                    "true" => Ok(Self::Bool(true)),
                    "false" => Ok(Self::Bool(false)),
                    _ => Err(FilterError::Value),
                };
            }
            _ => return Err(FilterError::Operator),
        };
        let number = one(&values)?.parse().ok().filter(|number: &f64| number.is_finite());
        Ok(Self::Number(comparison, number.ok_or(FilterError::Value)?))
    }

    fn holds(&self, value: &Value) -> bool {
        match self {
            Self::Number(comparison, wanted) => {
                value.as_f64().is_some_and(|found| comparison.holds(found, *wanted))
            }
            Self::Text { parts, wanted } => value
                .as_str()
                .is_some_and(|text| parts.iter().any(|part| text.contains(part.as_str())) == *wanted),
            Self::Bool(wanted) => value.as_bool() == Some(*wanted),
        }
    }
}

impl Comparison {
    fn holds(self, found: f64, wanted: f64) -> bool {
        match self {
            Self::Equal => found == wanted,
            Self::NotEqual => found != wanted,
            Self::Greater => found > wanted,
            Self::GreaterOrEqual => found >= wanted,
            Self::Less => found < wanted,
            Self::LessOrEqual => found <= wanted,
        }
    }
}

fn one(values: &[String]) -> Result<&str, FilterError> {
    match values {
        [value] if !value.is_empty() => Ok(value),
        _ => Err(FilterError::Arity),
    }
}

/// Whether the test holds for one of the values that the path leads to.
fn any(path: &[Step], value: &Value, test: &dyn Fn(&Value) -> bool) -> bool {
    match (path.split_first(), value) {
        (None, value) => test(value),
        (Some((step, rest)), Value::Object(members)) => {
            members.iter().any(|(name, member)| step.is(name) && any(rest, member, test))
        }
        (Some(_), Value::Array(items)) => items.iter().any(|item| any(path, item, test)),
        _ => false,
    }
}

const MOST_CONDITIONS: usize = 16;
const MOST_VALUES: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn every_operator_has_its_meaning() {
        let data = json!({
            "temperature": 21.5, "count": 3, "on": true, "status": "failed: disk", "gps": {"lat": -7.25},
            "cells": [{"v": 1}, {"v": 9}], "a=b": "x;y",
        });
        for (text, holds) in [
            ("", true),
            ("temperature=gte:20;", true),
            ("temperature=gte:20", true),
            ("temperature=gte:21.5;count=lt:4", true),
            ("temperature=gte:20;count=gt:3", false),
            ("temperature=gt:21.5", false),
            ("temperature=lte:21.5", true),
            ("temperature=lt:21.5", false),
            ("count=3", true),
            ("count=eq:3.0", true),
            ("count=neq:3", false),
            ("count=neq:4", true),
            ("gps/lat=lt:0", true),
            ("gps/*=eq:-7.25", true),
            ("*/lat=eq:-7.25", true),
            ("cells/v=gt:8", true),
            ("cells/v=gt:9", false),
            ("on=bool:true", true),
            ("on=bool:false", false),
            ("status=in:stopped,failed", true),
            ("status=in:stopped", false),
            ("status=nin:stopped", true),
            ("status=nin:disk", false),
            (r"status=in:failed\: d", true),
            (r"a\=b=in:x\;y", true),
            ("absent=neq:1", false),
            ("absent=nin:x", false),
            ("status=eq:3", false),
            ("count=in:3", false),
        ] {
            assert_eq!(Conditions::parse(text).unwrap().hold(&data), holds, "{text}");
        }
    }

    #[test]
    fn what_is_no_condition_is_refused_with_its_reason() {
        use FilterError::{Arity, Escape, Operator, Value};
        for (text, error) in [
            ("a=gtt:1", Operator),
            ("a=:1", FilterError::Syntax("")),
            ("a=GT:1", Operator),
            (r"a=gt:1\", Escape),
            (r"a\x=1", Escape),
            ("a=gt:1,2", Arity),
            ("a=gt:", Arity),
            ("a=", Arity),
            ("a=in:", Arity),
            ("a=in:x,", Arity),
            ("a=bool:true,false", Arity),
            ("a=gt:warm", Value),
            ("a=gt:NaN", Value),
            ("a=gt:inf", Value),
            ("a=1e999", Value),
            ("a=bool:yes", Value),
            ("a", FilterError::Syntax("")),
            (";", FilterError::Syntax("")),
            ("a=1;;b=2", FilterError::Syntax("")),
            ("=1", FilterError::Syntax("")),
            ("a//b=1", FilterError::Syntax("")),
            ("a=eq:1:2", FilterError::Syntax("")),
            ("a=b=1", FilterError::Syntax("")),
            ("a:b=1", FilterError::Syntax("")),
        ] {
            let found = Conditions::parse(text).unwrap_err();
            assert_eq!(std::mem::discriminant(&found), std::mem::discriminant(&error), "{text}: {found:?}");
        }
        assert!(Conditions::parse(&"a=1;".repeat(16)).is_ok());
        assert!(Conditions::parse(&"a=1;".repeat(17)).is_err());
        assert_eq!(Conditions::parse(&format!("a=in:{}", ["x"; 33].join(","))), Err(Arity));
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in r"([ab1\\/,=:;*]|gt|in|bool|true){0,32}") {
            if let Ok(conditions) = Conditions::parse(&text) {
                conditions.hold(&json!({"a": {"b": [1, "b"]}, "b": true}));
            }
        }

        #[test]
        fn numbers_compare_as_numbers(found in -1e6..1e6f64, wanted in -1e6..1e6f64) {
            let holds = |operator: &str| {
                Conditions::parse(&format!("v={operator}:{wanted}")).unwrap().hold(&json!({"v": found}))
            };
            prop_assert_eq!(holds("gt"), found > wanted);
            prop_assert_eq!(holds("lte"), found <= wanted);
            prop_assert_eq!(holds("eq"), !holds("neq"));
        }
    }
}
