//! A device that lies over the rings. Whatever it writes, one of two things happens: the queue goes on, or it is
//! broken, does nothing any more, and says why. In either case every buffer comes back, once, and no frame reaches
//! beyond its buffers.

mod chance;
mod headers;
mod ids;
mod lengths;
mod model;
mod places;
mod resume;
mod rig;
mod scribble;
