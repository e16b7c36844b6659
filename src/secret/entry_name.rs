//! Names of the entries of a Secret, as the API server accepts them.

use super::RenderError;

/// The longest name of an entry, in bytes.
pub(super) const MAX_LENGTH: usize = 253;

/// The entry name for a credential: `_` replaces each character that the API server would refuse.
///
/// # Errors
/// [`RenderError::NameTooLong`]. Names are not cut, because no user expects a cut name.
pub(super) fn from_credential(name: &str) -> Result<String, RenderError> {
    let mut cleaned: String = name.chars().map(|c| if is_allowed(c) { c } else { '_' }).collect();
    if cleaned.is_empty() || cleaned == "." {
        cleaned = "_".to_owned();
    } else if cleaned.starts_with("..") {
        let rest = cleaned.trim_start_matches('.');
        cleaned = "_".repeat(cleaned.len() - rest.len()) + rest;
    }
    if cleaned.len() > MAX_LENGTH {
        return Err(RenderError::NameTooLong { name: name.to_owned(), length: cleaned.len() });
    }
    Ok(cleaned)
}

/// Whether the API server accepts this name.
pub(super) fn is_valid(name: &str) -> bool {
    (1..=MAX_LENGTH).contains(&name.len())
        && name != "."
        && !name.starts_with("..")
        && name.chars().all(is_allowed)
}

const fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::kept("user-name_1.x", "user-name_1.x")]
    #[case::hidden_file(".dockerconfigjson", ".dockerconfigjson")]
    #[case::dots_inside("a..b", "a..b")]
    #[case::path("../x", "___x")]
    #[case::parent("..", "__")]
    #[case::here(".", "_")]
    #[case::empty("", "_")]
    #[case::unicode("schlüssel", "schl_ssel")]
    #[case::wide("鍵🔑", "__")]
    #[case::spaces("a b\n", "a_b_")]
    fn names_are_made_valid(#[case] name: &str, #[case] expected: &str) {
        assert_eq!(from_credential(name).unwrap(), expected);
    }

    #[test]
    fn a_name_of_300_characters_is_refused() {
        let refusal = from_credential(&"n".repeat(300)).unwrap_err().to_string();
        assert!(refusal.contains("300") && refusal.len() < 250, "{refusal}");
        assert!(from_credential(&"n".repeat(MAX_LENGTH)).is_ok());
    }

    proptest! {
        #[test]
        fn what_comes_out_is_valid(name in "\\PC{0,280}") {
            if let Ok(cleaned) = from_credential(&name) {
                prop_assert!(is_valid(&cleaned), "{name:?} became {cleaned:?}");
            }
        }

        #[test]
        fn a_valid_name_is_kept(name in "[-._a-zA-Z0-9]{1,20}") {
            prop_assume!(is_valid(&name));
            prop_assert_eq!(from_credential(&name).unwrap(), name);
        }
    }
}
