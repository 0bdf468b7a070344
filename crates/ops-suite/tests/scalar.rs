//! The reference device passes the suite.

use sostenuto_ops::scalar::ScalarBackend;
use sostenuto_ops_suite::run_suite;

#[test]
fn scalar_device_passes_the_suite() {
    run_suite(&|| Box::new(ScalarBackend::new()));
}
