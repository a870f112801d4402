//! Tokens, the nodes that join with them, and who one is.

use std::sync::Arc;

use axum::{Extension, Json, extract::State, http::StatusCode};
use uuid::Uuid;
use windlass_api::{
    access::{
        IssuedToken, JoinRequest, NodeCertificate, RenewRequest, Token, TokenRequest, WhoAmI,
    },
    ids::{AdmissionId, NodeName, TokenId},
    list::List,
    problem::Code,
    validate::FieldError,
};
use windlass_core::{
    access::{Caller, Denied, Reach, renewable},
    cluster::Cluster,
    view,
};
use windlass_trust::{
    authority,
    token::{self, Kind},
};

use super::{Api, parameters::PathParameters, write::WriteRequest};
use crate::{
    controller::Write,
    error::Error,
    trust::{Issued, Trust},
};

/// Makes one. What it is itself is told this once.
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    request: WriteRequest,
) -> Result<(StatusCode, Json<IssuedToken>), Error> {
    let trust = trust(&api)?;
    let request: TokenRequest = request.json()?;
    let kind = match request.usage {
        windlass_api::access::TokenUse::Join { .. } => Kind::Join,
        windlass_api::access::TokenUse::Access { .. } => Kind::Access,
    };
    let token = windlass_trust::Token::generate(kind, trust.fingerprint())
        .map_err(|error| Error::new(Code::Internal, error.to_string()))?;
    let hash = token.hash();
    let write = Write::CreateToken(hash, Box::new(request));
    let written = api.handle.write(write, None).await?;
    let shown = find(&written.cluster, &hash.id())?;
    let secret = token.reveal().to_string();
    Ok((
        StatusCode::CREATED,
        Json(IssuedToken {
            token: shown,
            secret,
        }),
    ))
}

/// All of them, on one page.
pub(super) async fn list(State(api): State<Arc<Api>>) -> Json<List<Token>> {
    let cluster = api.handle.state();
    Json(List {
        items: view::tokens(&cluster).collect(),
        version: cluster.version,
        next: None,
    })
}

/// Revokes one.
pub(super) async fn revoke(
    State(api): State<Arc<Api>>,
    path: PathParameters,
    request: WriteRequest,
) -> Result<StatusCode, Error> {
    let write = Write::RevokeToken(path.get("token")?);
    api.handle.write(write, request.idempotency).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn find(cluster: &Cluster, id: &TokenId) -> Result<Token, Error> {
    view::token(cluster, id)
        .ok_or_else(|| Error::new(Code::NotFound, format!("there is no token {id}")))
}

/// Lets a node in.
pub(super) async fn join(
    State(api): State<Arc<Api>>,
    request: WriteRequest,
) -> Result<Json<NodeCertificate>, Error> {
    let trust = trust(&api)?;
    let JoinRequest {
        token,
        node,
        certificate_request,
    } = request.json()?;
    let token: windlass_trust::Token = token
        .parse()
        .map_err(|error: token::ParseError| Error::new(Code::Unauthenticated, error.to_string()))?;
    if token.kind() != Kind::Join {
        return Err(Denied::NotAJoinToken.into());
    }
    let admission = AdmissionId(Uuid::new_v4());
    // Before the token is used up: a request that is none costs its node nothing.
    let issued = issue(&api, trust, &certificate_request, &node, admission)?;
    let write = Write::Admit(token.hash(), node, admission);
    let written = api.handle.write(write, None).await?;
    Ok(answer(&written.cluster, issued))
}

/// Gives a node another certificate.
pub(super) async fn renew(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    request: WriteRequest,
) -> Result<Json<NodeCertificate>, Error> {
    let trust = trust(&api)?;
    let RenewRequest {
        certificate_request,
    } = request.json()?;
    let Caller::Agent(agent) = caller else {
        return Err(Denied::NotAnAgent.into());
    };
    let cluster = api.handle.state();
    renewable(&cluster, &agent)?;
    let issued = issue(
        &api,
        trust,
        &certificate_request,
        &agent.node,
        agent.admission,
    )?;
    Ok(answer(&cluster, issued))
}

fn issue(
    api: &Api,
    trust: &Trust,
    request: &str,
    node: &NodeName,
    admission: AdmissionId,
) -> Result<Issued, Error> {
    let issued = trust.issue(request, node.clone(), admission, api.handle.now());
    issued.map_err(|error| match error {
        authority::Error::Making(_) | authority::Error::Pem => {
            let message = "it is not a request for a certificate (PKCS #10, in PEM)";
            Error::invalid(vec![FieldError::new("certificateRequest", message)])
        }
        authority::Error::Mismatch | authority::Error::Time(_) | authority::Error::Key(_) => {
            Error::new(Code::Internal, error.to_string())
        }
    })
}

fn answer(cluster: &Cluster, issued: Issued) -> Json<NodeCertificate> {
    Json(NodeCertificate {
        cluster: cluster.record.id,
        certificate: issued.certificate,
        authorities: issued.authorities,
    })
}

/// Who one is.
pub(super) async fn whoami(Extension(caller): Extension<Caller>) -> Result<Json<WhoAmI>, Error> {
    match caller {
        Caller::Local => Ok(Json(WhoAmI::Local)),
        Caller::Person(person) => Ok(Json(WhoAmI::Token {
            id: person.token,
            role: person.role,
            namespaces: match person.reach {
                Reach::Everywhere => None,
                Reach::Namespaces(names) => Some(names),
            },
        })),
        Caller::Agent(_) => Err(Denied::IsAnAgent.into()),
        Caller::Nobody => Err(Denied::Unknown.into()),
    }
}

fn trust(api: &Api) -> Result<&Trust, Error> {
    api.trust.as_deref().ok_or_else(|| {
        let detail = "the cluster has no certificates: stop the server, `windlass server init`, and \
                      start it again";
        Error::new(Code::Conflict, detail)
    })
}
