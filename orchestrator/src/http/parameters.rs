//! What stands in a request's path and query, parsed strictly.

use std::{error::Error as _, fmt::Display, str::FromStr, sync::Arc};

use axum::{
    extract::{FromRequestParts, Query as AxumQuery, RawPathParams},
    http::request::Parts,
};
use serde::de::DeserializeOwned;
use windlass_api::{
    ids::{Namespace, WorkloadKey},
    validate::FieldError,
};

use super::Api;
use crate::error::Error;

/// The parameters of a route, as they stand in its path.
#[derive(Debug)]
pub(super) struct PathParameters(Vec<(String, String)>);

impl PathParameters {
    /// The parameter `name` of the route, if the route has it.
    pub(super) fn optional<T>(&self, name: &str) -> Result<Option<T>, Error>
    where
        T: FromStr,
        T::Err: Display,
    {
        let Some((_, text)) = self.0.iter().find(|(key, _)| key == name) else {
            return Ok(None);
        };
        text.parse().map(Some).map_err(|error: T::Err| {
            let error = FieldError::new(name, error.to_string());
            Error::malformed(format!("the path has a bad name: {error}"))
        })
    }

    /// The parameter `name`, which the route has.
    pub(super) fn get<T>(&self, name: &str) -> Result<T, Error>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.optional(name)?
            .ok_or_else(|| Error::malformed(format!("the path has no {name}")))
    }

    /// The workload that the path names.
    pub(super) fn workload(&self) -> Result<WorkloadKey, Error> {
        Ok(WorkloadKey::new(self.namespace()?, self.get("workload")?))
    }

    /// The namespace that the path names.
    pub(super) fn namespace(&self) -> Result<Namespace, Error> {
        self.get("namespace")
    }
}

impl FromRequestParts<Arc<Api>> for PathParameters {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Error> {
        let raw = RawPathParams::from_request_parts(parts, api)
            .await
            .map_err(|rejection| Error::malformed(rejection.body_text()))?;
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        Ok(Self(raw.iter().map(owned).collect()))
    }
}

/// The query, as a struct that denies unknown fields: a misspelt parameter must not be ignored.
#[derive(Debug)]
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<Api>> for Query<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Api>) -> Result<Self, Error> {
        let parsed = AxumQuery::<T>::try_from_uri(&parts.uri);
        parsed
            .map(|AxumQuery(query)| Self(query))
            .map_err(|rejection| {
                let why = rejection
                    .source()
                    .map_or_else(|| rejection.to_string(), ToString::to_string);
                Error::malformed(format!("the query is not understood: {why}"))
            })
    }
}

/// The query of a route that takes none.
#[derive(Debug)]
pub(super) struct NoQuery;

impl<S: Sync> FromRequestParts<S> for NoQuery {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        match parts.uri.query() {
            None | Some("") => Ok(Self),
            Some(_) => Err(Error::malformed(
                "the query is not understood: this route takes no parameters after a `?`",
            )),
        }
    }
}
