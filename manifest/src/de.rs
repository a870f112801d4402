//! Reads serde's data model from a tree of nodes.
//!
//! An error remembers the way from the root to what is to blame, as positions in mappings and
//! sequences; the way grows while the error passes up. What was pruned is not shown to serde.

mod fault;

use serde::{
    Deserializer,
    de::{
        DeserializeSeed, Error as _, MapAccess, SeqAccess, Unexpected, Visitor,
        value::StrDeserializer,
    },
    forward_to_deserialize_any,
};
use windlass_api::spec::SCALAR_TEXT;

pub(crate) use fault::{Blame, Fault, Kind};

use crate::{
    collect::Pruned,
    node::{Entry, Node, Value},
    scalar::{Resolved, Scalar},
};

/// A node without what was pruned from it.
#[derive(Clone, Copy)]
pub(crate) struct NodeDeserializer<'de> {
    node: &'de Node,
    pruned: &'de Pruned,
}

impl<'de> NodeDeserializer<'de> {
    pub(crate) fn new(node: &'de Node, pruned: &'de Pruned) -> Self {
        Self { node, pruned }
    }

    fn unexpected(&self) -> Unexpected<'de> {
        match &self.node.value {
            Value::Sequence(_) => Unexpected::Seq,
            Value::Mapping(_) => Unexpected::Map,
            Value::Scalar(scalar) => match scalar.resolve() {
                Resolved::Null => Unexpected::Unit,
                Resolved::Bool(b) => Unexpected::Bool(b),
                Resolved::Unsigned(n) => Unexpected::Unsigned(n),
                Resolved::Signed(n) => Unexpected::Signed(n),
                Resolved::Huge(_) => Unexpected::Other("a number beyond all bounds"),
                Resolved::Float(n) => Unexpected::Float(n),
                Resolved::Text(text) => Unexpected::Str(text),
            },
        }
    }

    fn visit_scalar<V: Visitor<'de>>(
        self,
        scalar: &'de Scalar,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match scalar.resolve() {
            Resolved::Null => visitor.visit_unit(),
            Resolved::Bool(b) => visitor.visit_bool(b),
            Resolved::Unsigned(n) => visitor.visit_u64(n),
            Resolved::Signed(n) => visitor.visit_i64(n),
            Resolved::Huge(_) => Err(Fault::invalid_value(self.unexpected(), &visitor)),
            Resolved::Float(n) => visitor.visit_f64(n),
            Resolved::Text(text) => visitor.visit_borrowed_str(text),
        }
    }
}

impl<'de> Deserializer<'de> for NodeDeserializer<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Scalar(scalar) => self.visit_scalar(scalar, visitor),
            Value::Sequence(items) => {
                let items = items.iter().map(AsRef::as_ref).enumerate();
                let pruned = self.pruned;
                visitor.visit_seq(Items { items, pruned })
            }
            Value::Mapping(entries) => visitor.visit_map(Entries {
                entries: entries.iter().enumerate(),
                pruned: self.pruned,
                current: None,
            }),
        }
    }

    /// A field that has a key but no value is a mistake, also where it may be absent: nothing
    /// that a person wrote is ignored in silence.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if name != SCALAR_TEXT {
            return visitor.visit_newtype_struct(self);
        }
        match &self.node.value {
            Value::Scalar(scalar) if scalar.resolve() != Resolved::Null => {
                visitor.visit_borrowed_str(&scalar.text)
            }
            _ => Err(Fault::invalid_type(self.unexpected(), &visitor)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Scalar(scalar) if scalar.resolve() != Resolved::Null => {
                visitor.visit_enum(StrDeserializer::new(&scalar.text))
            }
            _ => Err(Fault::not_a_variant(self.unexpected(), variants)),
        }
    }

    /// A derived struct would take a list of its fields' values as well.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Mapping(_) => self.deserialize_any(visitor),
            _ => Err(Fault::invalid_type(self.unexpected(), &visitor)),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map identifier
    }
}

struct Items<'de, I: Iterator<Item = (usize, &'de Node)>> {
    items: I,
    pruned: &'de Pruned,
}

impl<'de, I: Iterator<Item = (usize, &'de Node)>> SeqAccess<'de> for Items<'de, I> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        for (position, node) in self.items.by_ref() {
            if let Some(pruned) = self.pruned.below(position) {
                let element = seed.deserialize(NodeDeserializer::new(node, pruned));
                return element.map(Some).map_err(|fault| fault.below(position));
            }
        }
        Ok(None)
    }
}

struct Entries<'de, I: Iterator<Item = (usize, &'de Entry)>> {
    entries: I,
    pruned: &'de Pruned,
    /// The entry whose value comes next.
    current: Option<(usize, NodeDeserializer<'de>)>,
}

impl<'de, I: Iterator<Item = (usize, &'de Entry)>> MapAccess<'de> for Entries<'de, I> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        for (position, entry) in self.entries.by_ref() {
            if let Some(pruned) = self.pruned.below(position) {
                self.current = Some((position, NodeDeserializer::new(&entry.node, pruned)));
                let key = seed.deserialize(StrDeserializer::new(&entry.key.text));
                return key.map(Some).map_err(|fault: Fault| fault.at_key(position));
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some((position, value)) = self.current.take() else {
            return Err(Fault::custom("a value was asked for before its key"));
        };
        seed.deserialize(value)
            .map_err(|fault| fault.below(position))
    }
}

#[cfg(test)]
mod tests;
