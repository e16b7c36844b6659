//! Shared by the tests of all topics: a stage for each test, operators, and the clocks, brokers and clusters that they
//! use.

pub mod cluster;
pub mod conditions;
pub mod database;
pub mod deployment;
pub mod elsewhere;
pub mod evidence;
pub mod foundry;
pub mod ibm;
pub mod installation;
pub mod oauth;
pub mod policy;
pub mod process;
pub mod release;
pub mod remote;
pub mod rights;
pub mod role_switch;
pub mod rotation;
pub mod service;
pub mod stage;
pub mod time;
