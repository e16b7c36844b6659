// A broker on the library brokerapi, for the operator's tests. `testkit` builds it once and keeps it in the user's
// cache directory.
module servicekeys.dev/testkit/brokers/go

go 1.24.0

require code.cloudfoundry.org/brokerapi/v13 v13.0.0

require github.com/google/uuid v1.6.0 // indirect
