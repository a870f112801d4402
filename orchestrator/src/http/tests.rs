//! The API on a real controller with a store in memory.

mod access;
mod broken_streams;
mod cluster;
mod documented;
mod encrypted;
mod errors;
mod fixture;
mod leases;
mod limits;
mod lists;
mod logs;
mod nodes;
mod races;
mod sockets;
mod streams;
mod watches;
mod writes;
