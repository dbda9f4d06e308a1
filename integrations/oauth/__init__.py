"""The OAuth client side of Aster: functions over values, one RFC clause each, and one small sender.

    challenges      RFC 9110 §11.6.1, RFC 6750 §3     what a 401 or 403 says
    discovery       RFC 9728, RFC 8414, OIDC          from a server URL to the endpoints of its authorization server
    registration    RFC 7591                          a client id at an authorization server
    authorization   RFC 6749 §4.1, 7636, 9207         the address people are sent to, and what comes back
    tokens          RFC 6749 §5                       what a token endpoint answers
    token_requests  RFC 6749 §4.1.3, 4.4, 6, RFC 7009, 8693, 7523 §2.1  what a token endpoint is asked
    client_assertion  RFC 7523 §2.2                   a client that signs instead of sending a secret
    sender          the only module that touches the network; wording cleans what providers say before people see it

Nothing here knows the database, Django or a user. Strings that identify something (issuer, resource, endpoints) stay
exactly as the other side wrote them: comparing normalised URLs is how OAuth clients loop or talk to the wrong server.
"""
