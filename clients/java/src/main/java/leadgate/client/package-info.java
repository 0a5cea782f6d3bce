/**
 * A thin layer over the generated stubs in {@code leadgate.v1}: connection, credentials, deadlines, request ids, retries, typed errors
 * and streams. Start with {@link leadgate.client.LeadgateClient}.
 */
package leadgate.client;
