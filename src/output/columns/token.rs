//! The columns of tokens.

use jiff::Timestamp;
use windlass_api::access::{Token, TokenUse};

use super::{Detail, Row};
use crate::output::{
    age::{age, until},
    table::Cell,
};

impl Row for Token {
    const PLURAL: &'static str = "tokens";
    const NAMESPACED: bool = false;

    fn headers(_: Detail) -> Vec<&'static str> {
        vec!["ID", "FOR", "NAMESPACES", "DESCRIPTION", "AGE", "EXPIRES"]
    }

    fn cells(&self, _: Detail, now: Timestamp) -> Vec<Cell> {
        let (purpose, namespaces) = match &self.usage {
            TokenUse::Join { node: None } => ("join".to_owned(), None),
            TokenUse::Join { node: Some(node) } => (format!("join {node}"), None),
            TokenUse::Access {
                role,
                namespaces: None,
            } => (role.to_string(), Some("all".to_owned())),
            TokenUse::Access {
                role,
                namespaces: Some(namespaces),
            } => {
                let names: Vec<_> = namespaces.iter().map(ToString::to_string).collect();
                (role.to_string(), Some(names.join(",")))
            }
        };
        let description = Some(&self.description).filter(|text| !text.is_empty());
        vec![
            Cell::new(&self.id),
            Cell::new(purpose),
            Cell::or_dash(namespaces),
            Cell::or_dash(description),
            Cell::new(age(now, self.created_at)),
            Cell::new(format!("in {}", until(now, self.expires_at))),
        ]
    }

    fn namespace(&self) -> Option<String> {
        None
    }

    fn kind(&self) -> &'static str {
        "token"
    }

    fn short_name(&self) -> String {
        self.id.to_string()
    }
}
