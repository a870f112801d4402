//! Who one is, and the tokens by which others come in.

use http::Method;
use rustls::pki_types::CertificateDer;

use super::{Client, Error, exchange::Call};
use crate::{
    access::{IssuedToken, Token, TokenRequest, WhoAmI},
    ids::TokenId,
    list::List,
};

impl Client {
    /// Who one is, for the server.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn whoami(&self) -> Result<WhoAmI, Error> {
        self.read("/v1/whoami".to_owned()).await
    }

    /// Who one is, and the certificates that the server showed, which were verified.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn introduce(&self) -> Result<(WhoAmI, Vec<CertificateDer<'static>>), Error> {
        let call = Call::new(Method::GET, "/v1/whoami".to_owned());
        let (whoami, chain) = self.exchange.json_once(&call).await?;
        Ok((whoami, chain.0.to_vec()))
    }

    /// Makes a token. If the answer is lost, there may be one that nobody has: it is not tried
    /// again, since that would make another one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_token(&self, request: &TokenRequest) -> Result<IssuedToken, Error> {
        let call = Call::new(Method::POST, "/v1/tokens".to_owned()).with_json(request);
        Ok(self.exchange.json_once(&call).await?.0)
    }

    /// All tokens that are good.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn tokens(&self) -> Result<List<Token>, Error> {
        self.read("/v1/tokens".to_owned()).await
    }

    /// Revokes a token.
    ///
    /// # Errors
    /// See [`Error`]; a problem with the code `not-found` if there is none.
    pub async fn revoke_token(&self, id: &TokenId) -> Result<(), Error> {
        let call = Call::write(Method::DELETE, format!("/v1/tokens/{id}"));
        self.exchange.done(&call).await
    }
}
