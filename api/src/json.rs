//! JSON that comes from outside, read as strictly as manifests are.
//!
//! serde takes an array for an object with the same fields in order, and the last of two equal keys:
//! neither is what anybody means to write.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeOwned, DeserializeSeed, Error as _, IntoDeserializer, MapAccess, SeqAccess,
        Unexpected, Visitor,
        value::{MapAccessDeserializer, MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_json::{Map, Value, error::Category};

use crate::validate::FieldError;

/// Why text was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is not JSON; the message says at which line and column.
    #[error("{0}")]
    Syntax(String),
    /// It is JSON of another form; the path is empty where the whole is to blame.
    #[error("{0}")]
    Form(FieldError),
}

/// Reads an object.
///
/// # Errors
/// The first mistake: also a key that is there twice at any depth, and an array in the place of an
/// object.
pub fn object<T: DeserializeOwned>(text: &[u8]) -> Result<T, Error> {
    let value = parse(text)?;
    if !value.is_object() {
        let error = serde_json::Error::invalid_type(unexpected(&value), &"an object");
        return Err(Error::Form(FieldError::new("", error.to_string())));
    }
    from_value(value).map_err(Error::Form)
}

/// Reads from a value, which takes no array for an object.
///
/// # Errors
/// The first mistake, with the path of the field; the path is empty where the whole is to blame.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, FieldError> {
    serde_path_to_error::deserialize(Strict(value))
        .map_err(|error| FieldError::new(path(error.path()), error.into_inner().to_string()))
}

fn parse(text: &[u8]) -> Result<Value, Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let Unambiguous(value) =
        serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
            let path = path(error.path());
            let error = error.into_inner();
            match error.classify() {
                Category::Data => Error::Form(FieldError::new(path, error.to_string())),
                Category::Syntax | Category::Eof | Category::Io => Error::Syntax(error.to_string()),
            }
        })?;
    deserializer
        .end()
        .map_err(|error| Error::Syntax(error.to_string()))?;
    Ok(value)
}

fn path(path: &serde_path_to_error::Path) -> String {
    if path.iter().next().is_none() {
        return String::new();
    }
    path.to_string()
}

fn unexpected(value: &Value) -> Unexpected<'_> {
    match value {
        Value::Null => Unexpected::Unit,
        Value::Bool(value) => Unexpected::Bool(*value),
        Value::Number(_) => Unexpected::Other("number"),
        Value::String(text) => Unexpected::Str(text),
        Value::Array(_) => Unexpected::Seq,
        Value::Object(_) => Unexpected::Map,
    }
}

/// A value in which every object has each key once.
struct Unambiguous(Value);

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyValue;

        impl<'de> Visitor<'de> for AnyValue {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any JSON value")
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_str<E>(self, value: &str) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_string<E>(self, value: String) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
                let mut values = Vec::new();
                while let Some(Unambiguous(value)) = items.next_element()? {
                    values.push(value);
                }
                Ok(Value::Array(values))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
                let mut map = Map::new();
                while let Some(key) = entries.next_key::<String>()? {
                    if map.contains_key(&key) {
                        // Where the value would be read, so that the path leads to it.
                        entries.next_value_seed(Repeated)?;
                    }
                    let Unambiguous(value) = entries.next_value()?;
                    map.insert(key, value);
                }
                Ok(Value::Object(map))
            }
        }

        deserializer.deserialize_any(AnyValue).map(Self)
    }
}

/// The value of a key that was there before.
struct Repeated;

impl<'de> DeserializeSeed<'de> for Repeated {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, _: D) -> Result<(), D::Error> {
        Err(D::Error::custom("the key is there twice"))
    }
}

/// A value from which no array is read as an object.
struct Strict(Value);

impl<'de> IntoDeserializer<'de, serde_json::Error> for Strict {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

fn entries(
    map: Map<String, Value>,
) -> MapDeserializer<'static, impl Iterator<Item = (Strict, Strict)>, serde_json::Error> {
    let entries = map.into_iter();
    MapDeserializer::new(entries.map(|(key, value)| (Strict(Value::String(key)), Strict(value))))
}

impl<'de> Deserializer<'de> for Strict {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.0 {
            Value::Array(items) => {
                let mut items = SeqDeserializer::new(items.into_iter().map(Strict));
                let value = visitor.visit_seq(&mut items)?;
                items.end()?;
                Ok(value)
            }
            Value::Object(map) => {
                let mut entries = entries(map);
                let value = visitor.visit_map(&mut entries)?;
                entries.end()?;
                Ok(value)
            }
            scalar => scalar.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.deserialize_map(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        if self.0.is_array() {
            return Err(Self::Error::invalid_type(Unexpected::Seq, &visitor));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        match self.0 {
            Value::Object(map) if map.len() == 1 => {
                visitor.visit_enum(MapAccessDeserializer::new(entries(map)))
            }
            other => other.deserialize_enum(name, variants, visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[serde(default)]
        inner: Option<Inner>,
        #[serde(default)]
        list: Vec<Inner>,
        #[serde(default)]
        map: BTreeMap<Name, Option<String>>,
        #[serde(default)]
        choice: Option<Choice>,
        #[serde(default)]
        number: Option<i32>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Inner {
        a: u32,
        b: f64,
    }

    #[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
    struct Name(String);

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Choice {
        Nothing,
        Inner(Inner),
        Fields { a: u32 },
    }

    fn mistake(text: &str) -> FieldError {
        match object::<Outer>(text.as_bytes()) {
            Err(Error::Form(mistake)) => mistake,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn what_is_well_formed_is_read_as_serde_reads_it() {
        for text in [
            "{}",
            r#"{ "inner": { "a": 1, "b": 2 }, "list": [{ "a": 0, "b": -0.5 }], "number": -3 }"#,
            r#"{ "map": { "x": null, "y": "é" }, "choice": "nothing", "inner": null }"#,
            r#"{ "choice": { "inner": { "a": 1, "b": 1e3 } } }"#,
            r#"{ "choice": { "fields": { "a": 4294967295 } } }"#,
        ] {
            let read: Outer = object(text.as_bytes()).unwrap();
            assert_eq!(read, serde_json::from_str(text).unwrap(), "{text}");
        }
    }

    #[test]
    fn no_array_is_taken_for_an_object() {
        for (text, path) in [
            ("[]", ""),
            ("[null, []]", ""),
            (r#"{ "inner": [1, 2.0] }"#, "inner"),
            (r#"{ "list": [{ "a": 1, "b": 2 }, [1, 2.0]] }"#, "list[1]"),
            (r#"{ "choice": { "inner": [1, 2.0] } }"#, "choice.inner"),
            (r#"{ "choice": { "fields": [1] } }"#, "choice.fields"),
            (r#"{ "map": [["x", "y"]] }"#, "map"),
        ] {
            let mistake = mistake(text);
            assert_eq!(mistake.path, path, "{text}: {mistake}");
            assert!(mistake.message.contains("sequence"), "{text}: {mistake}");
        }
    }

    #[test]
    fn no_key_is_there_twice() {
        for (text, path) in [
            (r#"{ "number": 1, "number": 1 }"#, "number"),
            (r#"{ "map": { "x": "1", "x": "2" } }"#, "map.x"),
            (r#"{ "map": { "x": "1", "\u0078": "2" } }"#, "map.x"),
            (r#"{ "list": [{ "a": 1, "b": 2, "a": 1 }] }"#, "list[0].a"),
        ] {
            let mistake = mistake(text);
            assert_eq!(mistake.path, path, "{text}: {mistake}");
            assert!(mistake.message.contains("twice"), "{text}: {mistake}");
        }
    }

    #[test]
    fn other_mistakes_name_the_field() {
        for (text, path) in [
            (r#"{ "number": "x" }"#, "number"),
            (r#"{ "number": 99999999999 }"#, "number"),
            (r#"{ "nomber": 1 }"#, "nomber"),
            (r#"{ "list": [{ "a": 1 }] }"#, "list[0]"),
            (r#"{ "choice": "all" }"#, "choice"),
            (r#"{ "choice": {} }"#, "choice"),
            (r#"{ "choice": { "inner": 1, "fields": 2 } }"#, "choice"),
            ("7", ""),
        ] {
            assert_eq!(mistake(text).path, path, "{text}");
        }
    }

    #[test]
    fn what_is_not_json_says_where() {
        for text in ["", "{", "{} {}", "nan", "{\"number\": 1e999}"] {
            match object::<Outer>(text.as_bytes()) {
                Err(Error::Syntax(message)) => {
                    assert!(message.contains("line 1 column"), "{text}: {message}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
