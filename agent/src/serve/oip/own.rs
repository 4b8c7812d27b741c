//! What an inference request in JSON says of itself, looked up before anybody reads its tensors: its `id` and one of its
//! `parameters` (OIP v2 §Inference Request). Nothing is checked here; what is malformed is told when it is read.

use super::super::route::Own;
use super::words;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// So much JSON is looked through on the spot, bytes; more is left to a thread that may take its time.
const AT_ONCE_BYTES: usize = 64 << 10;

/// Looks through a body; `json_bytes` is what its header says.
pub(crate) async fn of(body: &Bytes, json_bytes: Option<usize>, parameter: Option<&str>) -> Own {
    let json = body.slice(..json_bytes.unwrap_or(body.len()).min(body.len()));
    if json.len() <= AT_ONCE_BYTES {
        return read(&json, parameter);
    }
    let parameter = parameter.map(str::to_owned);
    let work = move || read(&json, parameter.as_deref());
    tokio::task::spawn_blocking(work).await.unwrap_or_default()
}

fn read(json: &[u8], parameter: Option<&str>) -> Own {
    let found = look(json, parameter);
    found.or_else(|| look(&words::quoted(json)?, parameter)).unwrap_or_default()
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(borrow, default)]
    parameters: Option<&'a RawValue>,
}

fn look(json: &[u8], parameter: Option<&str>) -> Option<Own> {
    let head: Head<'_> = serde_json::from_slice(json).ok()?;
    let named = parameter.zip(head.parameters);
    let value = named
        .and_then(|(name, all)| Named(name).deserialize(&mut serde_json::Deserializer::from_str(all.get())).ok()?);
    Some(Own { id: head.id, parameter: value.and_then(text) })
}

/// A scalar as it was written, a text without its quotes.
fn text(value: &RawValue) -> Option<String> {
    let value = value.get();
    match value.as_bytes().first()? {
        b'"' => serde_json::from_str(value).ok(),
        b'{' | b'[' | b'n' => None,
        _ => Some(value.to_owned()),
    }
}

/// Finds one entry of an object and keeps no other, however many there are.
struct Named<'n>(&'n str);

impl<'de> DeserializeSeed<'de> for Named<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Named<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("parameters: an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<String>()? {
            if name == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, id: Option<&str>, line: Option<&str>) {
        let own = |text: Option<&str>| text.map(str::to_owned);
        assert_eq!(read(json.as_bytes(), Some("line")), Own { id: own(id), parameter: own(line) }, "{json}");
    }

    #[test]
    fn id_and_parameter_are_found_wherever_they_stand() {
        check(
            r#"{"id":"a","inputs":[{"data":[[1,2]]}],"parameters":{"x":{"line":1},"line":"7"}}"#,
            Some("a"),
            Some("7"),
        );
        check(r#"{"parameters":{"line":7},"inputs":[NaN,-Infinity]}"#, None, Some("7"));
        check(r#"{"parameters":{"line":true}}"#, None, Some("true"));
        check(r#"{"id":"a\u0062","parameters":{"l\u0069ne":"\n"}}"#, Some("ab"), Some("\n"));
    }

    #[test]
    fn what_is_not_there_or_no_scalar_is_none() {
        for parameters in
            ["{}", "null", "[]", r#"{"line":null}"#, r#"{"line":[7]}"#, r#"{"line":{}}"#, r#"{"other":7}"#]
        {
            check(&format!(r#"{{"id":"a","parameters":{parameters}}}"#), Some("a"), None);
        }
        for malformed in ["", "{", r#"{"id":7}"#, "[]", r#"{"id":"a"}{}"#] {
            check(malformed, None, None);
        }
    }

    #[tokio::test]
    async fn large_requests_are_looked_through_too() {
        let data = "0,".repeat(AT_ONCE_BYTES);
        let json = format!(r#"{{"inputs":[{{"data":[{data}0]}}],"parameters":{{"line":7}},"id":"a"}}"#);
        let body = Bytes::from(json.clone() + "raw elements");
        let own = of(&body, Some(json.len()), Some("line")).await;
        assert_eq!(own, Own { id: Some("a".to_owned()), parameter: Some("7".to_owned()) });
        assert_eq!(of(&body, Some(0), Some("line")).await, Own::default());
        assert_eq!(of(&body, Some(usize::MAX), None).await, Own::default());
    }
}
