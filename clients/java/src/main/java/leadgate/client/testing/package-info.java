/** Runs {@code leadgate demo}, a gateway with a simulated LeadSquared, in tests. */
package leadgate.client.testing;
