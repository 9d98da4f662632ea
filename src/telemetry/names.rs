//! Every metric tracegate has: one enumeration with name, kind, unit and help.
//!
//! `otelcol_` names are the OpenTelemetry Collector's, as its default Prometheus reader gives them: no unit and no
//! `_total`. `tracegate_` names are our own and follow the same rule.

/// How a metric moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only up.
    Counter,
    /// Up and down.
    Gauge,
    /// A distribution in fixed buckets.
    Histogram,
}

/// What a metric counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
}

/// From which `service::telemetry::metrics::level` on a metric is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// What everybody needs.
    Basic,
    /// What the default level adds.
    Normal,
    /// What costs more than it tells, most of the time.
    Detailed,
}

macro_rules! metrics {
    ($($metric:ident = $name:literal, $kind:ident, $unit:ident, $detail:ident, $help:literal;)*) => {
        /// A metric. Metrics are ordered as they are listed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)] // the help text says it
        pub enum Metric {
            $($metric,)*
        }

        impl Metric {
            /// Every metric.
            pub const ALL: &'static [Metric] = &[$(Metric::$metric,)*];

            /// The metric of that name.
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|metric| metric.name() == name)
            }

            /// Its name in a scrape, without the endings that the scrape's format may ask for.
            pub const fn name(self) -> &'static str {
                match self { $(Metric::$metric => $name,)* }
            }

            /// How it moves.
            pub const fn kind(self) -> Kind {
                match self { $(Metric::$metric => Kind::$kind,)* }
            }

            /// What it counts.
            pub const fn unit(self) -> Unit {
                match self { $(Metric::$metric => Unit::$unit,)* }
            }

            /// From which level on it is there.
            pub const fn detail(self) -> Detail {
                match self { $(Metric::$metric => Detail::$detail,)* }
            }

            /// A sentence for a person.
            pub const fn help(self) -> &'static str {
                match self { $(Metric::$metric => $help,)* }
            }
        }
    };
}

metrics! {
    ReceiverAcceptedSpans = "otelcol_receiver_accepted_spans", Counter, Count, Basic,
        "Spans taken into the pipeline.";
    ReceiverAcceptedLogRecords = "otelcol_receiver_accepted_log_records", Counter, Count, Basic,
        "Log records taken into the pipeline.";
    ReceiverAcceptedMetricPoints = "otelcol_receiver_accepted_metric_points", Counter, Count, Basic,
        "Metric points taken into the pipeline.";
    ReceiverRefusedSpans = "otelcol_receiver_refused_spans", Counter, Count, Basic,
        "Spans the pipeline did not take.";
    ReceiverRefusedLogRecords = "otelcol_receiver_refused_log_records", Counter, Count, Basic,
        "Log records the pipeline did not take.";
    ReceiverRefusedMetricPoints = "otelcol_receiver_refused_metric_points", Counter, Count, Basic,
        "Metric points the pipeline did not take.";
    ReceiverFailedSpans = "otelcol_receiver_failed_spans", Counter, Count, Basic,
        "Spans lost to an error inside the receiver.";
    ReceiverFailedLogRecords = "otelcol_receiver_failed_log_records", Counter, Count, Basic,
        "Log records lost to an error inside the receiver.";
    ReceiverFailedMetricPoints = "otelcol_receiver_failed_metric_points", Counter, Count, Basic,
        "Metric points lost to an error inside the receiver.";
    ReceiverRequests = "otelcol_receiver_requests", Counter, Count, Normal,
        "Requests that reached the pipeline, by what became of them.";
    ReceiverProducedItems = "otelcol_receiver_produced_items", Counter, Count, Normal,
        "Items the receiver handed on, by what became of them.";
    ReceiverRequestBytes = "tracegate_receiver_request_bytes", Histogram, Bytes, Normal,
        "Size of received requests after decompression.";
    ReceiverRejectedRequests = "tracegate_receiver_rejected_requests", Counter, Count, Basic,
        "Requests that never reached the pipeline, by reason.";
    ReceiverBlockedItems = "tracegate_receiver_blocked_items", Counter, Count, Basic,
        "Items refused for good by a decision of the pipeline.";
    ReceiverConnections = "tracegate_receiver_connections", Gauge, Count, Basic,
        "Open connections.";
    ReceiverInHandBytes = "tracegate_receiver_in_hand_bytes", Gauge, Bytes, Basic,
        "Bytes of requests that are being received or worked on.";
    ReceiverInHandLimit = "tracegate_receiver_in_hand_limit_bytes", Gauge, Bytes, Basic,
        "The most bytes of requests there may be in hand; further requests are refused.";

    ProcessorIncomingItems = "otelcol_processor_incoming_items", Counter, Count, Normal,
        "Items handed to the processor.";
    ProcessorOutgoingItems = "otelcol_processor_outgoing_items", Counter, Count, Normal,
        "Items the processor handed on.";
    ProcessorConsumedItems = "otelcol_processor_consumed_items", Counter, Count, Normal,
        "Items the processor of a pipeline was given, by what became of them.";
    ProcessorProducedItems = "otelcol_processor_produced_items", Counter, Count, Normal,
        "Items the processor of a pipeline handed on.";
    ProcessorInternalDuration = "otelcol_processor_internal_duration", Histogram, Seconds, Detailed,
        "Time the processor worked on one request.";
    StageDuration = "tracegate_stage_duration", Histogram, Seconds, Normal,
        "Time a processor worked on one request.";

    MemoryLimiterAcceptedSpans = "otelcol_processor_memory_limiter_accepted_spans", Counter, Count, Basic,
        "Spans let through by the memory limiter.";
    MemoryLimiterAcceptedLogRecords = "otelcol_processor_memory_limiter_accepted_log_records", Counter, Count, Basic,
        "Log records let through by the memory limiter.";
    MemoryLimiterAcceptedMetricPoints = "otelcol_processor_memory_limiter_accepted_metric_points", Counter, Count, Basic,
        "Metric points let through by the memory limiter.";
    MemoryLimiterRefusedSpans = "otelcol_processor_memory_limiter_refused_spans", Counter, Count, Basic,
        "Spans refused by the memory limiter.";
    MemoryLimiterRefusedLogRecords = "otelcol_processor_memory_limiter_refused_log_records", Counter, Count, Basic,
        "Log records refused by the memory limiter.";
    MemoryLimiterRefusedMetricPoints = "otelcol_processor_memory_limiter_refused_metric_points", Counter, Count, Basic,
        "Metric points refused by the memory limiter.";

    BatchSendSize = "otelcol_processor_batch_batch_send_size", Histogram, Count, Normal,
        "Items in each batch that was handed on.";
    BatchSendSizeBytes = "otelcol_processor_batch_batch_send_size_bytes", Histogram, Bytes, Detailed,
        "Bytes in each batch that was handed on.";
    BatchSizeTriggerSend = "otelcol_processor_batch_batch_size_trigger_send", Counter, Count, Normal,
        "Batches handed on because they were large enough.";
    BatchTimeoutTriggerSend = "otelcol_processor_batch_timeout_trigger_send", Counter, Count, Normal,
        "Batches handed on because their time was up.";
    BatchMetadataCardinality = "otelcol_processor_batch_metadata_cardinality", Gauge, Count, Normal,
        "Combinations of metadata values that are batched apart.";

    MaskFindings = "tracegate_mask_findings", Counter, Count, Basic,
        "Values masked, by rule and class.";
    MaskMaskedBytes = "tracegate_mask_masked_bytes", Counter, Bytes, Basic,
        "Bytes of payload replaced by masking.";
    MaskUnscanned = "tracegate_mask_unscanned", Counter, Count, Basic,
        "Values masked whole because they could not be scanned within their budget.";
    MaskIncomingMarkers = "tracegate_mask_incoming_markers", Counter, Count, Basic,
        "Masking markers that were already in received data.";
    PipelineEnforced = "tracegate_pipeline_enforced", Gauge, Count, Basic,
        "1 if the pipeline masks what passes, 0 if it does not.";

    ExporterSentSpans = "otelcol_exporter_sent_spans", Counter, Count, Basic,
        "Spans the destination took.";
    ExporterSentLogRecords = "otelcol_exporter_sent_log_records", Counter, Count, Basic,
        "Log records the destination took.";
    ExporterSentMetricPoints = "otelcol_exporter_sent_metric_points", Counter, Count, Basic,
        "Metric points the destination took.";
    ExporterSendFailedSpans = "otelcol_exporter_send_failed_spans", Counter, Count, Basic,
        "Spans given up after failed attempts to send.";
    ExporterSendFailedLogRecords = "otelcol_exporter_send_failed_log_records", Counter, Count, Basic,
        "Log records given up after failed attempts to send.";
    ExporterSendFailedMetricPoints = "otelcol_exporter_send_failed_metric_points", Counter, Count, Basic,
        "Metric points given up after failed attempts to send.";
    ExporterEnqueueFailedSpans = "otelcol_exporter_enqueue_failed_spans", Counter, Count, Basic,
        "Spans for which the sending queue had no room.";
    ExporterEnqueueFailedLogRecords = "otelcol_exporter_enqueue_failed_log_records", Counter, Count, Basic,
        "Log records for which the sending queue had no room.";
    ExporterEnqueueFailedMetricPoints = "otelcol_exporter_enqueue_failed_metric_points", Counter, Count, Basic,
        "Metric points for which the sending queue had no room.";
    ExporterRejectedSpans = "tracegate_exporter_rejected_spans", Counter, Count, Basic,
        "Spans the destination rejected by partial success.";
    ExporterRejectedLogRecords = "tracegate_exporter_rejected_log_records", Counter, Count, Basic,
        "Log records the destination rejected by partial success.";
    ExporterRejectedMetricPoints = "tracegate_exporter_rejected_metric_points", Counter, Count, Basic,
        "Metric points the destination rejected by partial success.";
    ExporterDroppedSpans = "tracegate_exporter_dropped_spans", Counter, Count, Basic,
        "Spans still queued when the drain deadline passed.";
    ExporterDroppedLogRecords = "tracegate_exporter_dropped_log_records", Counter, Count, Basic,
        "Log records still queued when the drain deadline passed.";
    ExporterDroppedMetricPoints = "tracegate_exporter_dropped_metric_points", Counter, Count, Basic,
        "Metric points still queued when the drain deadline passed.";
    ExporterQueueSize = "otelcol_exporter_queue_size", Gauge, Count, Basic,
        "What the sending queue holds, in the unit of its sizer. Signals share the queue: each shows the whole.";
    ExporterQueueCapacity = "otelcol_exporter_queue_capacity", Gauge, Count, Basic,
        "What the sending queue can hold, in the unit of its sizer. Signals share the queue: each shows the whole.";
    ExporterInFlight = "otelcol_exporter_in_flight_requests", Gauge, Count, Normal,
        "Requests sent to the destination and not yet answered.";
    ExporterRetries = "tracegate_exporter_retries", Counter, Count, Basic,
        "Attempts to send that failed and will be repeated.";
    ExporterConsumedItems = "otelcol_exporter_consumed_items", Counter, Count, Normal,
        "Items given to the exporter, by whether its queue took them.";
    ExporterEnqueueSize = "otelcol_exporter_enqueue_size", Histogram, Count, Detailed,
        "Items in a request that enters the sending queue.";
    ExporterEnqueueBytes = "otelcol_exporter_enqueue_size_bytes", Histogram, Bytes, Detailed,
        "Bytes of a request that enters the sending queue.";
    ExporterBatchSendSize = "otelcol_exporter_queue_batch_send_size", Histogram, Count, Detailed,
        "Items in a request as it is sent.";
    ExporterBatchSendBytes = "otelcol_exporter_queue_batch_send_size_bytes", Histogram, Bytes, Detailed,
        "Bytes of a request as it is sent, before compression.";

    ProcessUptime = "otelcol_process_uptime", Counter, Seconds, Basic,
        "Seconds since the process started.";
    ProcessCpuSeconds = "otelcol_process_cpu_seconds", Counter, Seconds, Basic,
        "User and system CPU time of the process in seconds.";
    ProcessMemoryRss = "otelcol_process_memory_rss", Gauge, Bytes, Basic,
        "Resident memory of the process in bytes.";
    ProcessHeap = "otelcol_process_runtime_heap_alloc_bytes", Gauge, Bytes, Basic,
        "Resident anonymous memory of the process: what the allocator holds, and stacks.";
    ProcessSystemMemory = "otelcol_process_runtime_total_sys_memory_bytes", Gauge, Bytes, Basic,
        "Writable private memory the process has mapped: what the allocator asked for, and stacks.";
    ConfigReloads = "tracegate_config_reloads", Counter, Count, Basic,
        "Reloads of the configuration, by outcome; one that failed left everything as it was.";
    UnhealthyComponents = "tracegate_unhealthy_components", Gauge, Count, Basic,
        "Parts of the gateway that stopped although nobody asked them to.";
    LogLinesDropped = "tracegate_log_lines_dropped", Counter, Count, Basic,
        "Log lines left out by sampling, by level.";
}

/// One metric for the items of each signal, in the order of [`Signal::ALL`](crate::otlp::Signal::ALL).
pub type PerSignal = [Metric; 3];

/// `otelcol_receiver_accepted_*`
pub const RECEIVER_ACCEPTED: PerSignal =
    [Metric::ReceiverAcceptedSpans, Metric::ReceiverAcceptedLogRecords, Metric::ReceiverAcceptedMetricPoints];
/// `otelcol_receiver_refused_*`
pub const RECEIVER_REFUSED: PerSignal =
    [Metric::ReceiverRefusedSpans, Metric::ReceiverRefusedLogRecords, Metric::ReceiverRefusedMetricPoints];
/// `otelcol_receiver_failed_*`
pub const RECEIVER_FAILED: PerSignal =
    [Metric::ReceiverFailedSpans, Metric::ReceiverFailedLogRecords, Metric::ReceiverFailedMetricPoints];
/// `otelcol_processor_memory_limiter_accepted_*`
pub const MEMORY_LIMITER_ACCEPTED: PerSignal = [
    Metric::MemoryLimiterAcceptedSpans,
    Metric::MemoryLimiterAcceptedLogRecords,
    Metric::MemoryLimiterAcceptedMetricPoints,
];
/// `otelcol_processor_memory_limiter_refused_*`
pub const MEMORY_LIMITER_REFUSED: PerSignal = [
    Metric::MemoryLimiterRefusedSpans,
    Metric::MemoryLimiterRefusedLogRecords,
    Metric::MemoryLimiterRefusedMetricPoints,
];
/// `otelcol_exporter_sent_*`
pub const EXPORTER_SENT: PerSignal =
    [Metric::ExporterSentSpans, Metric::ExporterSentLogRecords, Metric::ExporterSentMetricPoints];
/// `otelcol_exporter_send_failed_*`
pub const EXPORTER_SEND_FAILED: PerSignal =
    [Metric::ExporterSendFailedSpans, Metric::ExporterSendFailedLogRecords, Metric::ExporterSendFailedMetricPoints];
/// `otelcol_exporter_enqueue_failed_*`
pub const EXPORTER_ENQUEUE_FAILED: PerSignal = [
    Metric::ExporterEnqueueFailedSpans,
    Metric::ExporterEnqueueFailedLogRecords,
    Metric::ExporterEnqueueFailedMetricPoints,
];
/// `tracegate_exporter_rejected_*`
pub const EXPORTER_REJECTED: PerSignal =
    [Metric::ExporterRejectedSpans, Metric::ExporterRejectedLogRecords, Metric::ExporterRejectedMetricPoints];
/// `tracegate_exporter_dropped_*`
pub const EXPORTER_DROPPED: PerSignal =
    [Metric::ExporterDroppedSpans, Metric::ExporterDroppedLogRecords, Metric::ExporterDroppedMetricPoints];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::Signal;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_in_the_classic_form() {
        let names: HashSet<&str> = Metric::ALL.iter().map(|metric| metric.name()).collect();
        assert_eq!(names.len(), Metric::ALL.len());
        for name in names {
            assert!(name.starts_with("otelcol_") || name.starts_with("tracegate_"), "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
            assert!(!name.ends_with("_total"), "{name}");
        }
    }

    #[test]
    fn tables_by_signal_are_in_order_and_of_one_family() {
        for table in [
            RECEIVER_ACCEPTED,
            RECEIVER_REFUSED,
            RECEIVER_FAILED,
            MEMORY_LIMITER_ACCEPTED,
            MEMORY_LIMITER_REFUSED,
            EXPORTER_SENT,
            EXPORTER_SEND_FAILED,
            EXPORTER_ENQUEUE_FAILED,
            EXPORTER_REJECTED,
            EXPORTER_DROPPED,
        ] {
            let families: HashSet<&str> = table
                .iter()
                .zip(Signal::ALL)
                .map(|(metric, signal)| metric.name().strip_suffix(signal.items_name()).unwrap_or("wrong order"))
                .collect();
            assert_eq!(families.len(), 1, "{table:?}");
            assert!(!families.contains("wrong order"), "{table:?}");
        }
    }
}
