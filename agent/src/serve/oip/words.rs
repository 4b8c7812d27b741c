//! The bare words `NaN`, `Infinity` and `-Infinity`: no JSON, yet what Python's `json` and RapidJSON write and read.

/// The words, longer ones first where one begins like another.
const WORDS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];

/// A text with each bare word in quotes, so that a JSON reader takes it; `None` where there is none. Grows by half at most.
pub(crate) fn quoted(json: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let (mut at, mut copied, mut in_string) = (0, 0, false);
    while let Some(byte) = json.get(at) {
        let step = match byte {
            b'"' => {
                in_string = !in_string;
                1
            }
            // The byte behind it is part of the string, whatever it is.
            b'\\' if in_string => 2,
            b'N' | b'I' | b'-' if !in_string => {
                let rest = json.get(at..).unwrap_or_default();
                match WORDS.iter().find(|word| rest.starts_with(word)) {
                    Some(word) => {
                        out.extend_from_slice(json.get(copied..at).unwrap_or_default());
                        out.push(b'"');
                        out.extend_from_slice(word);
                        out.push(b'"');
                        copied = at + word.len();
                        word.len()
                    }
                    None => 1,
                }
            }
            _ => 1,
        };
        at += step;
    }
    if copied == 0 {
        return None;
    }
    out.extend_from_slice(json.get(copied..).unwrap_or_default());
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expected: Option<&str>) {
        assert_eq!(quoted(json.as_bytes()).map(|text| String::from_utf8(text).unwrap()).as_deref(), expected);
    }

    #[test]
    fn bare_words_are_quoted() {
        check("[NaN, -Infinity,Infinity]", Some(r#"["NaN", "-Infinity","Infinity"]"#));
    }

    #[test]
    fn strings_are_left_alone() {
        check(r#"["NaN", "a\"NaN", "\\"]"#, None);
        check(r#"["a\"", NaN]"#, Some(r#"["a\"", "NaN"]"#));
    }

    #[test]
    fn other_texts_are_left_alone() {
        check("[1, -2, null, Nan]", None);
        check("", None);
        check("\"\\", None);
    }
}
