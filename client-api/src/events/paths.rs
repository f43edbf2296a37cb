//! What filters are written in: names, the marks between them, and what stands for a mark inside a name. Pure.
//!
//! `\` makes the next mark an ordinary character. A lone `*` is any member of an object.

/// Why a filter cannot be used. Each has a close code of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FilterError {
    /// It does not follow the grammar, or is larger than a filter may be.
    #[error("{0}")]
    Syntax(&'static str),
    /// There is no such operator.
    #[error("operators are eq, neq, gt, gte, lt, lte, in, nin and bool")]
    Operator,
    /// A `\` before what is not a mark, or at the end.
    #[error("`\\` stands before one of \\ / , ( ) = : ; *")]
    Escape,
    /// Too many or too few values for the operator.
    #[error("in and nin take one to 32 values, the other operators one")]
    Arity,
    /// A value that the operator cannot compare with.
    #[error("bool takes true or false; eq, neq, gt, gte, lt and lte take a number")]
    Value,
}

/// One step from a value to its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// The member of this name.
    Name(String),
    /// Every member.
    Any,
}

impl Step {
    /// Whether a member of this name is meant.
    pub(crate) fn is(&self, name: &str) -> bool {
        match self {
            Self::Name(own) => own == name,
            Self::Any => true,
        }
    }
}

/// A piece of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    /// What is not a mark; `true` for a lone unescaped `*`.
    Text(String, bool),
    /// A mark.
    Mark(char),
}

impl Token {
    /// The step that a text names.
    pub(crate) fn step(self) -> Option<Step> {
        match self {
            Self::Text(_, true) => Some(Step::Any),
            Self::Text(name, false) => Some(Step::Name(name)),
            Self::Mark(_) => None,
        }
    }
}

/// Cuts a filter at these marks. The length is bounded first, so that everything after is.
pub(crate) fn tokens(filter: &str, marks: &str) -> Result<Vec<Token>, FilterError> {
    if filter.len() > LONGEST {
        return Err(FilterError::Syntax("a filter has at most 2048 bytes"));
    }
    let mut tokens = vec![];
    let mut text: Option<(String, bool)> = None;
    let mut characters = filter.chars();
    while let Some(character) = characters.next() {
        if marks.contains(character) {
            tokens.extend(text.take().map(|(text, star)| Token::Text(text, star)));
            tokens.push(Token::Mark(character));
            continue;
        }
        let (character, is_star) = match character {
            '\\' => {
                let meant = characters.next().filter(|next| ESCAPABLE.contains(*next));
                (meant.ok_or(FilterError::Escape)?, false)
            }
            other => (other, other == '*'),
        };
        match &mut text {
            None => text = Some((character.into(), is_star)),
            Some((text, star)) => {
                text.push(character);
                *star = false;
            }
        }
    }
    tokens.extend(text.map(|(text, star)| Token::Text(text, star)));
    Ok(tokens)
}

const LONGEST: usize = 2048;
const ESCAPABLE: &str = "\\/,()=:;*";
/// How deep a filter may look into an event.
pub(crate) const DEEPEST: usize = 8;
