//! vhost-user, front-end side.
