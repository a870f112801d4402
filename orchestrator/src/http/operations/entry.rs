//! How people, programs and nodes come in.

use axum::http::{Method, StatusCode};
use windlass_api::{
    access::{
        IssuedToken, JoinRequest, NodeCertificate, RenewRequest, Token, TokenRequest, WhoAmI,
    },
    list::List,
    wire::SESSION_PATH,
};
use windlass_core::access::Need;

use super::{RULE_CLUSTER, VIEW_SOMEWHERE};
use crate::http::{agents, operation::Operation, tokens};

pub(super) fn of_access() -> Vec<Operation> {
    vec![
        Operation::get(
            VIEW_SOMEWHERE,
            "/v1/whoami",
            "whoAmI",
            "Who one is, for the server.",
            tokens::whoami,
        )
        .answers::<WhoAmI>(StatusCode::OK, "Who one is."),
        Operation::get(
            RULE_CLUSTER,
            "/v1/tokens",
            "listTokens",
            "The tokens, all on one page. What they are themselves is kept nowhere.",
            tokens::list,
        )
        .answers::<List<Token>>(StatusCode::OK, "The tokens."),
        Operation::new(
            RULE_CLUSTER,
            Method::POST,
            "/v1/tokens",
            "createToken",
            "Make a token, for a node to join with or for somebody to use the API with.",
            tokens::create,
        )
        .body::<TokenRequest>()
        .answers::<IssuedToken>(StatusCode::CREATED, "The token, which is told this once."),
        Operation::write(
            RULE_CLUSTER,
            Method::DELETE,
            "/v1/tokens/{token}",
            "revokeToken",
            "Revoke a token: whoever has it is nobody from then on.",
            tokens::revoke,
        )
        .answers_empty(StatusCode::NO_CONTENT, "It is revoked."),
        Operation::new(
            Need::Nothing,
            Method::POST,
            "/v1/join",
            "join",
            "For machines: become a node, with a token that is worth nothing after that.",
            tokens::join,
        )
        .body::<JoinRequest>()
        .answers::<NodeCertificate>(StatusCode::OK, "The node's certificate."),
        Operation::new(
            Need::AgentToRenew,
            Method::POST,
            "/v1/agent/certificate",
            "renewCertificate",
            "For agents: another certificate, before the one that they have is over, or up to a \
             year after it.",
            tokens::renew,
        )
        .body::<RenewRequest>()
        .answers::<NodeCertificate>(StatusCode::OK, "The node's certificate."),
    ]
}

pub(super) fn of_agents() -> Vec<Operation> {
    vec![
        Operation::get(
            Need::Agent,
            SESSION_PATH,
            "openAgentSession",
            "For agents: the WebSocket on which an agent and the server speak.",
            agents::session,
        )
        .answers_empty(StatusCode::SWITCHING_PROTOCOLS, "The session is open.")
        .with_own_budget(),
        Operation::get(
            Need::Agent,
            "/v1/agent/streams/{stream}",
            "openAgentStream",
            "For agents: the WebSocket of a stream that the server asked for.",
            agents::stream,
        )
        .answers_empty(StatusCode::SWITCHING_PROTOCOLS, "The stream is open.")
        .with_own_budget(),
    ]
}
