//! What a route does of itself, whatever its Ingress asks for.

/// The ways of working in which class landfall and ingress-nginx differ; which ones a route has is decided when the
/// table is built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a habit of its own")]
pub struct Manner {
    /// TRACE, CONNECT, and methods with other characters than capital letters, `-` and `_` are refused.
    pub refuses_methods: bool,
    /// An Ingress that can't be served as it is written is answered for before anything that it asks for.
    pub refuses_early: bool,
    /// The target goes to the backend in the bytes in which it came, and redirects name the host as the client did.
    pub verbatim: bool,
    /// A body that the client holds back until it is asked for (RFC 9110 section 10.1.1) is asked for here, whatever
    /// the backend says.
    pub asks_for_bodies: bool,
    /// A request that an endpoint may have acted on is sent to another one, where its method allows that.
    pub repeats: bool,
    /// What one Ingress says of endpoints holds for others too: cookie and hash for all of the Service, TLS for all of
    /// the host.
    pub shares_endpoints: bool,
    /// The name of a backend that has no address is like a backend without endpoints.
    pub forgives_names: bool,
    /// Where answers of the backend are to be replaced and no backend has others, there is a 404.
    pub misses_pages: bool,
    /// A rule for any host leaves health checks of unknown hosts to us, unless it is for their very path.
    pub leaves_health_checks: bool,
}

impl Manner {
    /// Class landfall.
    pub const LANDFALL: Self = Self::all(false);
    /// Classes of ingress-nginx.
    pub const INGRESS_NGINX: Self = Self::all(true);

    const fn all(has: bool) -> Self {
        Self {
            refuses_methods: has,
            refuses_early: has,
            verbatim: has,
            asks_for_bodies: has,
            repeats: has,
            shares_endpoints: has,
            forgives_names: has,
            misses_pages: has,
            leaves_health_checks: has,
        }
    }
}
