//! Every reason code of this program: the word in the Event, the condition, the log line and the metric label.
//!
//! Where `MetalLB` has an Event for the same thing, its word is kept, because people search for it.

use landfall_model::Reason;

/// A Service got its address.
pub const IP_ALLOCATED: Reason = Reason::new("IPAllocated");
/// A Service was given an address that no node has announced since.
pub const NOT_YET_ANNOUNCED: Reason = Reason::new("NotYetAnnounced");
/// No pool has an address for the Service.
pub const ALLOCATION_FAILED: Reason = Reason::new("AllocationFailed");
/// What the Service asks for can't be understood or contradicts itself.
pub const LOAD_BALANCER_FAILED: Reason = Reason::new("LoadBalancerFailed");
/// The address that the Service had is not allowed any more.
pub const CLEAR_ASSIGNMENT: Reason = Reason::new("ClearAssignment");
/// The Service needs two cluster addresses and has fewer.
pub const NOT_ENOUGH_CLUSTER_IPS: Reason = Reason::new("NotEnoughClusterIPs");
/// The Service is headless.
pub const NO_CLUSTER_IP: Reason = Reason::new("NoClusterIP");
/// The Service has an annotation under its older name.
pub const DEPRECATED_ANNOTATION: Reason = Reason::new("deprecatedAnnotation");
/// An annotation of ours that doesn't exist.
pub const UNKNOWN_ANNOTATION: Reason = Reason::new("UnknownAnnotation");
/// A node announces the Service.
pub const NODE_ASSIGNED: Reason = Reason::new("nodeAssigned");
/// At least one node is able to announce the Service.
pub const ELIGIBLE_NODES: Reason = Reason::new("EligibleNodes");
/// No node is able to announce the Service.
pub const NO_ELIGIBLE_NODE: Reason = Reason::new("NoEligibleNode");
/// Only nodes that others are preferred to are able to announce the Service.
pub const NO_FIT_NODE: Reason = Reason::new("NoFitNode");
/// No node is able to announce a shared address for all of its Services.
pub const NO_COMMON_NODE: Reason = Reason::new("NoCommonNode");
/// No interface of a node is one that an address may be announced on, and nobody else announces it.
pub const NO_INTERFACE: Reason = Reason::new("NoInterface");
/// A node has a Service's address on an interface, so that it answers for it itself and nobody announces it.
pub const ADDRESS_ON_NODE: Reason = Reason::new("AddressOnNode");
/// A Service has an address that nobody announces.
pub const NOT_ANNOUNCED: Reason = Reason::new("NotAnnounced");
/// No advertisement covers the Service.
pub const NO_MATCHING_ADVERTISEMENT: Reason = Reason::new("NoMatchingAdvertisement");
/// A shared address can't be announced for some of its Services only.
pub const SHARED_IP_WITH_SERVICE_SELECTOR: Reason = Reason::new("sharedIPWithServiceSelector");
/// No endpoint serves the Service, so its address isn't announced.
pub const NO_ENDPOINTS: Reason = Reason::new("NoEndpoints");
/// An entry of a pool is not an address, prefix or range.
pub const INVALID_ADDRESS_RANGE: Reason = Reason::new("InvalidAddressRange");
/// Two entries hold the same addresses.
pub const OVERLAPPING_ADDRESSES: Reason = Reason::new("OverlappingAddresses");
/// A pool has no address at all.
pub const EMPTY_POOL: Reason = Reason::new("EmptyPool");
/// Addresses that can never be a Service's: loopback, multicast and the like.
pub const UNUSABLE_ADDRESSES: Reason = Reason::new("UnusableAddresses");
/// An entry is written in a form that works and surprises.
pub const HOST_BITS_IGNORED: Reason = Reason::new("HostBitsIgnored");
/// A label query that can't be evaluated.
pub const INVALID_SELECTOR: Reason = Reason::new("InvalidSelector");
/// The same value twice in one list.
pub const DUPLICATE_ENTRY: Reason = Reason::new("DuplicateEntry");
/// A priority or weight out of its range.
pub const INVALID_PRIORITY: Reason = Reason::new("InvalidPriority");
/// An advertisement names a pool that doesn't exist.
pub const UNKNOWN_POOL: Reason = Reason::new("UnknownPool");
/// A pool that no advertisement covers.
pub const NOT_ADVERTISED: Reason = Reason::new("NotAdvertised");
/// A namespace that doesn't exist.
pub const UNKNOWN_NAMESPACE: Reason = Reason::new("UnknownNamespace");
/// An interface name that no kernel would have.
pub const INVALID_INTERFACE: Reason = Reason::new("InvalidInterface");
/// Configuration of `MetalLB` before 0.13, which nothing reads any more.
pub const OUTDATED_CONFIGURATION: Reason = Reason::new("OutdatedConfiguration");
/// A pool or advertisement in a namespace that isn't read in a cluster.
pub const NAMESPACE_NOT_READ: Reason = Reason::new("NamespaceNotRead");
/// A node in another network than the addresses that it is to announce.
pub const NODE_OUTSIDE_SUBNET: Reason = Reason::new("NodeOutsideSubnet");
/// A kind that is accepted and not served.
pub const NOT_SERVED: Reason = Reason::new("NotServed");
/// Something on the network uses an address of a pool.
pub const ADDRESS_CONFLICT: Reason = Reason::new("AddressConflict");
/// One host answers for every address of a pool.
pub const PROXY_ARP: Reason = Reason::new("ProxyARP");
/// An address of a pool is a node's or a subnet's own.
pub const RESERVED_ADDRESS: Reason = Reason::new("ReservedAddress");
/// Heartbeats are off though there are several nodes.
pub const HEARTBEATS_OFF: Reason = Reason::new("HeartbeatsOff");
/// Heartbeats of a node whose speaker runs don't arrive, or are made with another key.
pub const HEARTBEATS_BLOCKED: Reason = Reason::new("HeartbeatsBlocked");
/// Two interfaces of a node are on one network segment.
pub const SAME_SEGMENT: Reason = Reason::new("SameSegment");
/// A port that the program needs is in use by another program.
pub const PORT_IN_USE: Reason = Reason::new("PortInUse");
